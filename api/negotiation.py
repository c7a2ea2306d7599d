"""What a client would rather read."""


def prefers_html(accept: str) -> bool:
    """Whether `text/html` is named, and named at least as high as JSON. Wildcards count for JSON alone."""
    qualities = dict(_quality(item) for item in accept.split(","))
    html = qualities.get("text/html", 0.0)
    json = next((qualities[kind] for kind in ("application/json", "application/*", "*/*") if kind in qualities), 0.0)
    return html > 0 and html >= json


def _quality(item: str) -> tuple[str, float]:
    kind, *parameters = (part.strip().lower() for part in item.split(";"))
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name == "q":
            try:
                return kind, min(max(float(value), 0.0), 1.0)
            except ValueError:
                return kind, 0.0
    return kind, 1.0


def prefers_korean(accept_language: str) -> bool:
    qualities = dict(_quality(item) for item in accept_language.split(","))

    def best(language: str) -> float:
        return max((q for tag, q in qualities.items() if tag.split("-")[0] == language), default=0.0)

    return best("ko") > best("en")
