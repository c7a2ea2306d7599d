"""One Settings, made once by `app.py` from the environment, `.env` and the command line. Nobody else reads them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from core.errors import InvalidRequest
from core.keep_alive import parse_keep_alive
from core.types import Quantization

PROJECT = Path(__file__).resolve().parent.parent
LOOPBACK = ("127.0.0.1", "localhost", "::1")
MIB = 1024 * 1024


def _env(name: str, default: Any, help_text: str, **limits: Any) -> Any:
    return Field(default, validation_alias=name, description=help_text, **limits)


class Settings(BaseSettings):
    """Every setting, its environment name, default and unit. `docs/settings.md` is printed from this class."""

    model_config = SettingsConfigDict(env_file=".env", extra="ignore", frozen=True, populate_by_name=True)

    host: str = _env("HOST", "127.0.0.1", "Address to listen on.")
    port: int = _env("PORT", 7860, "Port to listen on.", ge=0, le=65535)
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = _env("LOG_LEVEL", "INFO", "How much is logged.")

    models_dir: Path = _env("BERTH_MODELS_DIR", Path("models"), "Directory of your own models.")
    data_dir: Path = _env("BERTH_DATA_DIR", Path("data"), "Directory for what the server writes.")
    database_url: str | None = _env(
        "DATABASE_URL", None, "Where conversations are kept: postgresql://user:password@host/db; unset: a SQLite file."
    )
    starter_dir: Path = _env("BERTH_STARTER_DIR", PROJECT / "starter", "Directory of the starter models.")

    api_keys: Annotated[tuple[str, ...], NoDecode] = _env(
        "BERTH_API_KEYS", (), "Keys that may use models, separated by commas. None: use needs no key."
    )
    admin_key: str | None = _env("BERTH_ADMIN_KEY", None, "Key that may also load, unload and clean up.")
    cors_origins: Annotated[tuple[str, ...], NoDecode] = _env(
        "BERTH_CORS_ORIGINS", (), "Origins whose pages may call the API, separated by commas."
    )

    hub_endpoint: str | None = _env("HF_ENDPOINT", None, "Hub to download from.")
    hub_token: str | None = _env("HF_TOKEN", None, "Token for gated and private repositories; sent to the Hub alone.")
    offline: bool = _env("HF_HUB_OFFLINE", False, "Use only what is already on disk.")
    allow_pickle_weights: bool = _env(
        "ALLOW_PICKLE_WEIGHTS", True, "Whether an admin may load `pytorch_model.bin` (tensors only, never code)."
    )

    device: str = _env("BERTH_DEVICE", "auto", "Where models run unless a load says: auto, cpu, cuda, cuda:N.")
    threads: int | None = _env("BERTH_THREADS", None, "CPU threads of each model; unset: one a core.", ge=1, le=1024)
    passes: int = _env(
        "BERTH_PASSES", 1, "Passes that an ONNX encoder runs at once on a CPU, its threads divided.", ge=1, le=64
    )
    max_sequences: int = _env("BERTH_MAX_SEQUENCES", 8, "Answers one model generates at once.", ge=1, le=256)
    max_cached_tokens: int | None = _env(
        "BERTH_MAX_CACHED_TOKENS",
        None,
        "Tokens of all running answers of one model; unset: the runtime's choice.",
        ge=8,
    )
    model_path: str | None = _env(
        "MODEL_PATH", None, "Model to load at the start: a directory, a weight file, or a Hub id; its task's default."
    )
    sllm_model_path: str | None = _env("SLLM_MODEL_PATH", None, "The same, where `MODEL_PATH` is not set.")
    load_in_8bit: bool = _env("LOAD_IN_8BIT", False, "Whether that model is loaded in 8 bits.")
    load_in_4bit: bool = _env("LOAD_IN_4BIT", False, "Whether that model is loaded in 4 bits.")
    vision_model_path: str | None = _env(
        "VISION_MODEL_PATH", None, "Model for images to load at the start, beside that one: the default for looking."
    )
    use_gpu: bool | None = _env("USE_GPU", None, "False: models run on the CPU, unless `BERTH_DEVICE` or a load says.")
    gpu_layers: int | None = _env(
        "GPU_LAYERS", None, "Layers of a GGUF model on the GPU, unless its load says; unset or -1: all.", ge=-1
    )
    classify_model: str | None = _env("BERTH_CLASSIFY_MODEL", None, "Model of `POST /predict`.")
    embed_model: str = _env(
        "BERTH_EMBED_MODEL", "paraphrase-multilingual-MiniLM-L12-v2", "Model of `/api/v1/embed` and its kin."
    )

    max_history_length: int = _env(
        "MAX_HISTORY_LENGTH", 100, "Messages of a conversation that a model is sent, the newest.", ge=1, le=10_000
    )
    page_size: int = _env("PAGE_SIZE", 20, "Conversations on a page of a list, unless asked otherwise.", ge=1, le=100)

    max_images: int = _env("BERTH_MAX_IMAGES", 8, "Images that a message may hold.", ge=1, le=64)
    max_conversation_images: int = _env(
        "BERTH_MAX_CONVERSATION_IMAGES",
        32,
        "Images that a conversation, or a chat in one request, may hold.",
        ge=1,
        le=256,
    )
    max_stored_images_mb: float = _env(
        "BERTH_MAX_STORED_IMAGES_MB",
        1024.0,
        "MiB of images that all conversations of one key, or all those made without a key, may hold together.",
        gt=0,
    )
    max_image_megapixels: float = _env(
        "BERTH_MAX_IMAGE_MEGAPIXELS", 20.0, "Largest picture that is read, in millions of pixels.", gt=0, le=80
    )

    max_queue: int = _env("BERTH_MAX_QUEUE", 256, "Requests one model may have waiting or running.", ge=1)
    request_timeout_s: float = _env("BERTH_REQUEST_TIMEOUT", 120.0, "Seconds a request may take.", gt=0)
    load_timeout_s: float = _env("BERTH_LOAD_TIMEOUT", 900.0, "Seconds a model may take from disk to ready.", gt=0)
    load_wait_s: float = _env(
        "BERTH_LOAD_WAIT",
        60.0,
        "Seconds a request waits for a model that is being loaded; a stream waits on while the load goes on.",
        ge=0,
    )
    drain_s: float = _env("BERTH_DRAIN", 20.0, "Seconds a stop or unload waits for requests in flight.", ge=0)
    cpu_memory_budget_mb: float | None = _env(
        "BERTH_CPU_MEMORY_BUDGET_MB", None, "MiB of main memory that models may take; unset: what there is.", gt=0
    )
    gpu_memory_budget_mb: float | None = _env(
        "BERTH_GPU_MEMORY_BUDGET_MB", None, "MiB of each GPU that models may take; unset: what there is.", gt=0
    )
    visible_gpus: str | None = _env(
        "CUDA_VISIBLE_DEVICES", None, "GPUs that may be used, numbers or UUIDs with commas; unset: all."
    )
    keep_alive: float = _env(
        "BERTH_KEEP_ALIVE",
        -1.0,
        "How long a model stays in memory after its last request: seconds, `5m`, 0, or -1: until room is needed.",
    )
    max_body_mb: float = _env("BERTH_MAX_BODY_MB", 10.0, "Largest request body, in MiB.", gt=0)

    @field_validator("api_keys", "cors_origins", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("keep_alive", mode="before")
    @classmethod
    def _duration(cls, value: Any) -> float:
        return parse_keep_alive(value)

    @field_validator("log_level", mode="before")
    @classmethod
    def _upper(cls, value: Any) -> Any:
        return value.upper() if isinstance(value, str) else value

    @field_validator(
        *("admin_key", "hub_token", "hub_endpoint", "classify_model", "model_path", "sllm_model_path"),
        "vision_model_path",
        *("use_gpu", "gpu_layers", "cpu_memory_budget_mb", "gpu_memory_budget_mb"),
        mode="before",
    )
    @classmethod
    def _empty_is_unset(cls, value: Any) -> Any:
        return None if value == "" else value

    @field_validator("load_in_8bit", "load_in_4bit", mode="before")
    @classmethod
    def _empty_is_false(cls, value: Any) -> Any:
        return value or False

    @model_validator(mode="after")
    def _is_one_precision(self) -> Self:
        if self.load_in_8bit and self.load_in_4bit:
            raise ValueError("LOAD_IN_8BIT and LOAD_IN_4BIT are both true: choose one")
        return self

    @property
    def start_quantization(self) -> Quantization | None:
        """Of the model that is loaded at the start."""
        if self.load_in_4bit:
            return Quantization.NF4
        return Quantization.INT8 if self.load_in_8bit else None

    @property
    def chosen_device(self) -> str:
        """Where models run unless a load says."""
        return "cpu" if self.use_gpu is False and self.device == "auto" else self.device

    @field_validator("database_url", mode="before")
    @classmethod
    def _check_database(cls, value: Any) -> Any:
        if not value:
            return None
        from core.chat.database import parse_url  # libraries that take a moment to import

        try:
            parse_url(str(value), Path())
        except InvalidRequest as error:
            raise ValueError(error.message) from None
        return value

    @property
    def is_loopback(self) -> bool:
        return self.host in LOOPBACK

    @property
    def max_image_pixels(self) -> int:
        return int(self.max_image_megapixels * 1_000_000)

    @property
    def max_stored_image_bytes(self) -> int:
        return int(self.max_stored_images_mb * MIB)

    @property
    def max_body_bytes(self) -> int:
        return int(self.max_body_mb * MIB)


def read_settings(**given: Any) -> Settings:
    """Settings from the environment and `.env`, with `given` (the command line) on top.

    Raises InvalidRequest whose message names each variable that cannot be read.
    """
    try:
        return Settings(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        lines = [f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors(include_input=False)]
        raise InvalidRequest("Settings cannot be read. " + "; ".join(lines)) from None


def as_markdown() -> str:
    """Every setting as a table: `docs/settings.md`."""
    rows = ["# Settings", "", "From the environment, `.env`, or the command line.", "", "| name | default | |"]
    rows.append("|---|---|---|")
    for field in Settings.model_fields.values():
        default = "" if field.default in (None, ()) else str(field.default).replace(f"{PROJECT}/", "")
        rows.append(f"| `{field.validation_alias}` | {default} | {field.description} |")
    return "\n".join(rows) + "\n"


if __name__ == "__main__":
    print(as_markdown(), end="")
