"""The words of the page, in both languages."""

from __future__ import annotations

import gradio as gr
from gradio.i18n import I18nData

from ui.strings import en, ko

LANGUAGES: dict[str, dict[str, str]] = {"en": en.WORDS, "ko": ko.WORDS}

i18n = gr.I18n(**LANGUAGES)


def w(key: str) -> I18nData:
    """The words for `key`, in the language of whoever reads them. Raises KeyError for a key that is not there."""
    if key not in en.WORDS:
        raise KeyError(key)
    return i18n(key)
