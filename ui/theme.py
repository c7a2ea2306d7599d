"""The look: neutral greys, one accent, system fonts; and the scripts and styles that travel with the page."""

from __future__ import annotations

from pathlib import Path

import gradio as gr
from gradio.themes.utils import colors, sizes

_STATIC = Path(__file__).parent / "static"
_SANS = ("Pretendard", "Apple SD Gothic Neo", "Malgun Gothic", "Noto Sans KR", "Noto Sans CJK KR", "system-ui")
_MONO = ("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "D2Coding", "monospace")

ACCENT = colors.Color(
    name="berth", c50="#eef4fe", c100="#dbe7fc", c200="#b9d0f9", c300="#8db2f4", c400="#6a9bf0", c500="#3d78e3",
    c600="#1d5fd1", c700="#194fae", c800="#17438f", c900="#153870", c950="#0e2448",
)  # fmt: skip


def theme() -> gr.themes.Base:
    """Gradio's variables, set; nothing is fetched from anywhere."""
    base = gr.themes.Base(
        primary_hue=ACCENT,
        neutral_hue=colors.zinc,
        spacing_size=sizes.spacing_md,
        radius_size=sizes.radius_sm,
        text_size=sizes.text_md,
        font=[*_SANS, "sans-serif"],
        font_mono=list(_MONO),
    )
    return base.set(
        body_background_fill="#ffffff",
        body_background_fill_dark="#131416",
        body_text_color="#1b1d21",
        body_text_color_dark="#e8e9ec",
        body_text_color_subdued="#5d626b",
        body_text_color_subdued_dark="#a2a7b0",
        background_fill_secondary="#f6f7f8",
        background_fill_secondary_dark="#1b1d20",
        border_color_primary="#dcdee3",
        border_color_primary_dark="#34373d",
        block_background_fill="transparent",
        block_background_fill_dark="transparent",
        block_border_width="0px",
        block_padding="0px",
        block_shadow="none",
        block_label_background_fill="transparent",
        block_title_text_weight="500",
        block_title_text_size="13px",
        block_title_text_color="*body_text_color_subdued",
        block_title_text_color_dark="*body_text_color_subdued",
        input_background_fill="#ffffff",
        input_background_fill_dark="#1b1d20",
        input_border_color="#c9ccd3",
        input_border_color_dark="#454950",
        input_border_color_focus="*primary_600",
        input_border_color_focus_dark="*primary_400",
        input_border_width="1px",
        input_shadow="none",
        input_shadow_focus="0 0 0 2px rgba(29, 95, 209, .25)",
        input_shadow_focus_dark="0 0 0 2px rgba(106, 155, 240, .35)",
        input_placeholder_color="#737882",
        input_placeholder_color_dark="#8b9099",
        button_primary_background_fill="*primary_600",
        button_primary_background_fill_hover="*primary_700",
        button_primary_background_fill_dark="*primary_600",
        button_primary_background_fill_hover_dark="*primary_500",
        button_primary_text_color="#ffffff",
        button_primary_text_color_dark="#ffffff",
        button_secondary_background_fill="transparent",
        button_secondary_background_fill_dark="transparent",
        button_secondary_border_color="*border_color_primary",
        button_secondary_border_color_dark="*border_color_primary",
        button_border_width="1px",
        button_primary_shadow="none",
        button_secondary_shadow="none",
        slider_color="*primary_600",
        slider_color_dark="*primary_400",
        layout_gap="16px",
        form_gap_width="16px",
        checkbox_label_background_fill="transparent",
        checkbox_label_background_fill_dark="transparent",
        checkbox_label_border_width="0px",
        checkbox_label_padding="0px",
    )


def head() -> str:
    """What goes into the page's head: styles, then the scripts in the order of their names."""
    style = (_STATIC / "berth.css").read_text(encoding="utf-8")
    scripts = "\n".join(path.read_text(encoding="utf-8") for path in sorted(_STATIC.glob("*.js")))
    return f"{_ICON}<style>{style}</style><script>(() => {{\n{scripts}\n}})();</script>"


# a berth seen from above, as an inline picture: no request, no file to serve
_ICON = (
    "<link rel=\"icon\" href=\"data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E"
    "%3Cpath fill='%231d5fd1' d='M2 2h3v12H2zM11 2h3v12h-3zM6.5 5h3v7l-1.5 2-1.5-2z'/%3E%3C/svg%3E\">"
)
