"""The page that a browser sees where a key is needed. Self-contained: nothing else is public."""

from string import Template

from starlette.datastructures import Headers
from starlette.responses import HTMLResponse

from api.negotiation import prefers_korean

_WORDS = {
    "en": {
        "title": "Sign in",
        "hint": "This server asks for a key. Whoever runs it can give you one.",
        "label": "Key",
        "button": "Sign in",
        "wrong": "That key does not fit. Check it and try again.",
        "unreachable": "The server does not answer. Try again in a moment.",
    },
    "ko": {
        "title": "로그인",
        "hint": "이 서버를 쓰려면 키가 필요해요. 서버 운영자에게 받은 키를 입력해 주세요.",
        "label": "키",
        "button": "로그인",
        "wrong": "키가 맞지 않아요. 다시 확인해 주세요.",
        "unreachable": "서버가 응답하지 않아요. 잠시 후 다시 시도해 주세요.",
    },
}

_PAGE = Template("""<!doctype html>
<html lang="$lang">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Berth · $title</title>
<link rel="icon" href="data:,">
<style>
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
body { display: grid; place-items: center; min-height: 100vh; margin: 0; }
form { width: min(22rem, calc(100vw - 3rem)); }
h1 { font-size: 1.25rem; margin: 0 0 .25rem; }
p { margin: 0 0 1rem; opacity: .75; word-break: keep-all; }
label { display: block; font-size: .875rem; margin-bottom: .25rem; }
input, button { box-sizing: border-box; width: 100%; font: inherit; padding: .5rem .75rem; border-radius: .5rem; }
input { border: 1px solid #8888; background: transparent; color: inherit; }
button { margin-top: .75rem; border: 0; background: #1d5fd1; color: #fff; cursor: pointer; }
#error { color: #c2410c; margin: .75rem 0 0; opacity: 1; min-height: 1.5em; }
</style>
</head>
<body>
<form>
<h1>Berth</h1>
<p>$hint</p>
<label for="key">$label</label>
<input id="key" type="password" autocomplete="current-password" required autofocus>
<button>$button</button>
<p id="error" role="alert"></p>
</form>
<script>
document.querySelector("form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const error = document.getElementById("error");
  error.textContent = "";
  try {
    const answer = await fetch("session", {
      method: "POST",
      headers: {"Content-Type": "application/json"},
      body: JSON.stringify({key: document.getElementById("key").value}),
    });
    if (!answer.ok) error.textContent = answer.status < 500 ? "$wrong" : "$unreachable";
    else if (location.pathname.endsWith("/session")) location.replace(".");
    else location.reload();
  } catch {
    error.textContent = "$unreachable";
  }
});
</script>
</body>
</html>
""")


def sign_in_page(headers: Headers, status: int = 200) -> HTMLResponse:
    """In the browser's language."""
    lang = "ko" if prefers_korean(headers.get("accept-language", "")) else "en"
    content = _PAGE.substitute(_WORDS[lang], lang=lang)
    kept = {"Vary": "Accept, Accept-Language, Cookie", "Cache-Control": "no-store"}
    return HTMLResponse(content, status, kept)
