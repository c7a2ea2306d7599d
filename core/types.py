"""The nouns. Frozen, plain, standard library only; every module of the project speaks in these."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NotRequired, TypedDict


class Task(StrEnum):
    """What a model can be asked to do. The names are those of the Hugging Face Hub."""

    TEXT_CLASSIFICATION = "text-classification"
    TOKEN_CLASSIFICATION = "token-classification"
    FEATURE_EXTRACTION = "feature-extraction"
    QUESTION_ANSWERING = "question-answering"
    ZERO_SHOT_CLASSIFICATION = "zero-shot-classification"
    FILL_MASK = "fill-mask"
    TEXT_GENERATION = "text-generation"
    TEXT2TEXT_GENERATION = "text2text-generation"
    SUMMARIZATION = "summarization"
    TRANSLATION = "translation"
    IMAGE_TEXT_TO_TEXT = "image-text-to-text"
    IMAGE_CLASSIFICATION = "image-classification"

    @property
    def generates(self) -> bool:
        return self in GENERATION_TASKS


TEXT_TO_TEXT_TASKS = (Task.TEXT2TEXT_GENERATION, Task.SUMMARIZATION, Task.TRANSLATION)  # of encoder-decoders
VISION_TASKS = (Task.IMAGE_TEXT_TO_TEXT, Task.IMAGE_CLASSIFICATION)  # that are given images
GENERATION_TASKS = (Task.TEXT_GENERATION, *TEXT_TO_TEXT_TASKS, Task.IMAGE_TEXT_TO_TEXT)


class Runtime(StrEnum):
    """The library that runs a model."""

    TRANSFORMERS = "transformers"
    SENTENCE_TRANSFORMERS = "sentence-transformers"
    ONNXRUNTIME = "onnxruntime"
    LLAMA_CPP = "llama.cpp"


class Quantization(StrEnum):
    """bitsandbytes precision of the linear layers' weights."""

    INT8 = "8bit"
    NF4 = "4bit"


class State(StrEnum):
    """Where a model is in its life. `core/fleet/states.py` holds the arrows between them."""

    ABSENT = "absent"  # known, not in memory; the next request starts it
    QUEUED = "queued"
    DOWNLOADING = "downloading"
    LOADING = "loading"
    READY = "ready"
    DRAINING = "draining"
    UNLOADING = "unloading"
    FAILED = "failed"

    @property
    def shown(self) -> str:
        """The word the REST contract uses."""
        return "loaded" if self is State.READY else self.value

    @property
    def is_loading(self) -> bool:
        return self in (State.QUEUED, State.DOWNLOADING, State.LOADING)


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """All that is needed to load a model; None means "as the model's own files say"."""

    name: str
    source: str  # org/name, a name under the models directory, or an absolute path
    revision: str | None = None
    file: str | None = None  # one weight file inside the repository
    runtime: Runtime | None = None
    task: Task | None = None
    quantization: Quantization | None = None
    device: str = "auto"  # auto, cpu, cuda, cuda:N
    dtype: str | None = None  # float32, float16, bfloat16
    context_length: int | None = None  # tokens; a limit below the model's own
    max_batch_tokens: int | None = None  # padded tokens in one forward pass
    gpu_layers: int | None = None  # of a GGUF model, on the GPU; -1: all; not said: as the settings say
    pinned: bool | None = None  # True: it is never evicted
    keep_alive: float | None = None  # seconds in memory after its last request; 0: none; -1: until room is needed


@dataclass(frozen=True, slots=True)
class RepoFile:
    path: str  # relative to the repository, forward slashes
    size: int  # bytes


@dataclass(frozen=True, slots=True)
class Anatomy:
    """The sizes of a model as its headers and configuration say them: what a plan is reckoned from.

    Numbers are of the weights, as many as there are; 0 and empty where nothing is said.
    """

    tensor_bytes: int = 0  # of all weights as they are stored
    floats: int = 0  # numbers that a load brings to its own precision
    fixed_bytes: int = 0  # of tensors that stay as they are stored: integers, packed numbers
    linear: int = 0  # of the floats, in the matrices that bitsandbytes quantises
    linear_rows: int = 0  # of those matrices, each with a scale in 8 bits
    layer_bytes: int = 0  # of a GGUF file's layers, which may lie on a GPU
    layers: int = 0  # of the part that writes, where the model has two
    hidden: int = 0  # width of a token
    intermediate: int = 0  # width inside of a layer
    heads: int = 0
    vocabulary: int = 0
    cache_numbers: int = 0  # in the keys and values of one token, all layers, grouped heads counted
    plain_cache_numbers: int = 0  # the same as it follows from heads and width alone, without a head's own width
    cross_attends: bool = False  # an encoder-decoder, which also keeps keys and values of what it has read
    image_hidden: int = 0  # of the tower that images go through: width of a patch
    image_intermediate: int = 0  # width inside of its layers
    image_patches: int = 0  # of an image at most
    image_tile: int = 0  # patches of a tile, of which some at a time go through it; of an image that is not split, all
    image_merge: int = 0  # patches that become one token
    image_bytes: int = 0  # of the file that sees for a GGUF model, beside its own tensors


@dataclass(frozen=True, slots=True)
class Inspection:
    """What a repository is, told from its small files and headers, before any weights move."""

    spec: ModelSpec
    revision: str  # commit hash; "local" for a directory
    local: str | None  # directory, when nothing has to be downloaded
    files: tuple[RepoFile, ...]  # what loading needs, weights of one format only
    runtime: Runtime
    tasks: tuple[Task, ...]  # first: the one the model was made for
    model_type: str
    architecture: str
    labels: tuple[str, ...]
    context_length: int | None  # tokens
    parameters: int | None
    weight_bytes: int
    dtype: str | None  # as stored
    license: str | None
    warnings: tuple[str, ...]
    anatomy: Anatomy = field(default_factory=Anatomy)
    projector: str | None = None  # among `files`, what sees for a GGUF model: its mmproj file

    @property
    def download_bytes(self) -> int:
        return 0 if self.local else sum(file.size for file in self.files)


@dataclass(frozen=True, slots=True)
class Need:
    """What a load takes of one device, in bytes."""

    device: str
    weights: int = 0
    cache: int = 0  # keys and values of all answers at once
    activations: int = 0  # numbers of the largest pass
    overhead: int = 0  # the process, its libraries, the device's context
    correction: int = 0  # by what the same was seen to take before

    @property
    def reckoned(self) -> int:
        """From headers alone."""
        return self.weights + self.cache + self.activations + self.overhead

    @property
    def total(self) -> int:
        """What a load is promised."""
        return self.reckoned + self.correction


@dataclass(frozen=True, slots=True)
class DeviceRoom:
    """What there is on one device, in bytes."""

    device: str
    limit: int  # that models may take in all
    held: int  # that those in memory count for

    @property
    def free(self) -> int:
        return max(0, self.limit - self.held)


class Fit(StrEnum):
    """Whether a load fits, and if not, what would make it."""

    FITS = "fits"
    AFTER_UNLOADING = "fits_after_unloading"
    QUANTIZED = "fits_as"
    SPLIT = "fits_with_gpu_layers"
    NEVER = "never"


@dataclass(frozen=True, slots=True)
class Plan:
    """Whether and how a model fits in memory, reckoned from headers before any weights move."""

    inspection: Inspection
    device: str
    dtype: str  # that it computes in; of a GGUF file, how it is quantised
    context_length: int | None  # tokens of one text, or of a prompt and its answer
    max_sequences: int | None  # answers at once; None: it writes none
    cached_tokens: int  # of all answers together
    needs: tuple[Need, ...]
    rooms: tuple[DeviceRoom, ...]
    disk_free: int  # bytes, where it would be downloaded to
    fit: Fit
    unload: tuple[str, ...] = ()  # models whose end makes room
    quantizations: tuple[Quantization, ...] = ()  # with which it fits beside what is in memory
    gpu_layers: int | None = None  # with which it fits
    shorter_context: int | None = None  # tokens with which it fits
    measured: dict[str, int] | None = None  # bytes by device, the most that the same was seen to take

    @property
    def total(self) -> int:
        return sum(need.total for need in self.needs)

    @property
    def fits_on_disk(self) -> bool:
        return self.inspection.download_bytes <= self.disk_free


@dataclass(frozen=True, slots=True)
class FileProgress:
    """How far a download is. `total` and `eta_s` are None while unknown."""

    file: str
    done: int  # bytes, over all files
    total: int | None  # bytes, over all files
    eta_s: float | None = None


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What a worker says of the model it has loaded."""

    tasks: tuple[Task, ...]
    runtime: Runtime
    device: str
    dtype: str
    model_type: str
    labels: tuple[str, ...] = ()
    context_length: int | None = None  # tokens, special ones included
    dimension: int | None = None  # of an embedding
    pooling: str | None = None
    parameters: int | None = None
    prompts: tuple[str, ...] = ()
    has_chat_template: bool | None = None  # None: it does not chat
    max_sequences: int | None = None  # answers generated at once


@dataclass(frozen=True, slots=True)
class LoadEvent:
    """One step of a load. `stage` is queued, downloading, verifying, loading, warming, ready, failed or cancelled."""

    stage: str
    model: str
    data: dict[str, Any] = field(default_factory=dict)

    @property
    def is_last(self) -> bool:
        return self.stage in ("ready", "failed", "cancelled")


class Label(TypedDict):
    label: str
    score: float


class Entity(TypedDict):
    """A token (`label`) or a group of tokens (`entity_group`); offsets are characters: text[start:end] == word."""

    label: NotRequired[str]
    entity_group: NotRequired[str]
    score: float
    word: str
    start: int
    end: int


class Answer(TypedDict):
    answer: str
    score: float
    start: int
    end: int


class MaskFill(TypedDict):
    score: float
    token: int
    token_str: str
    sequence: str


class Image(TypedDict):
    """A picture as a model is shown it: checked, upright, in RGB, without metadata."""

    data: bytes  # a PNG or JPEG file
    key: str  # SHA-256 of `data`, hex: the same picture has the same key


class View(TypedDict):
    """An image as a model gets it, in one piece or cut into tiles of one size."""

    tiles: list[bytes]  # PNG files, row by row
    columns: int  # of tiles
    width: int  # of one tile, in pixels
    height: int


class Preview(TypedDict):
    """What a model sees of an image."""

    views: list[View]  # as a whole, and in tiles, where it sees both
    tokens: int  # that the image takes of a prompt
    is_exact: bool  # False: as its library is handed it, which does not tell what it makes of it


IMAGE_MARK = "\ufffc"  # Unicode's object replacement character: where an image stands in a text


class Message(TypedDict):
    """One turn of a chat. `role` is system, user or assistant."""

    role: str
    content: str  # with an IMAGE_MARK where each of `images` stands; those beyond the marks come before the text
    images: NotRequired[tuple[Image, ...]]


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the next token is drawn, in this order: penalties, temperature, top_k, top_p, min_p, the draw.

    Temperature 0 takes the likeliest token always. Penalties as OpenAI's API documents them (presence, frequency:
    subtracted once, or for each time the token was generated) and as CTRL, section 4.1, does (repetition: divides
    the positive scores and multiplies the negative ones of tokens in the prompt or the answer).
    """

    max_tokens: int | None = None  # of the answer; None: DEFAULT_MAX_TOKENS, or the room that is left
    max_length: int | None = None  # where max_tokens says nothing: of prompt and answer; of an encoder's, the answer
    temperature: float = 1.0
    top_k: int = 0  # 0: all
    top_p: float = 1.0
    min_p: float = 0.0  # share of the likeliest token's probability
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    stop: tuple[str, ...] = ()  # the answer ends before the first of these
    seed: int | None = None
    logprobs: int | None = None  # None: none; k: of the drawn token and the k likeliest
    n: int = 1  # answers to one prompt; the seed of answer i is seed + i
    ignore_eos: bool = False


@dataclass(frozen=True, slots=True)
class Prompt:
    """What is to be continued: exactly one of a text, token ids, or a chat."""

    text: str | None = None
    ids: tuple[int, ...] | None = None
    messages: tuple[Message, ...] | None = None

    @property
    def has_images(self) -> bool:
        return any(message.get("images") for message in self.messages or ())


class TokenLogprob(TypedDict):
    token: str
    logprob: float  # natural
    bytes: list[int]


class TokenScore(TokenLogprob):
    """A drawn token with its likeliest alternatives."""

    top: list[TokenLogprob]


@dataclass(frozen=True, slots=True)
class Begun:
    """The prompt is read and waits for its turn: the first thing that a generation says."""

    model: str
    revision: str
    prompt_tokens: int
    context_length: int
    has_chat_template: bool | None  # False: a plain one was used; None: the prompt was no chat
    image_tokens: tuple[int, ...] = ()  # that each of its images takes of the prompt


@dataclass(frozen=True, slots=True)
class Delta:
    """What was added to answer `index`. Joined, the texts of an answer's deltas are the answer."""

    index: int
    text: str
    tokens: int = 0  # drawn since the delta before
    logprobs: tuple[TokenScore, ...] = ()
    finish_reason: str | None = None  # stop (end token or stop string) or length, on the last of an answer


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens. `cached_tokens` of the prompt were still in memory from an earlier turn."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Generated:
    """How a generation went: the last thing it says, when every answer's last token is out."""

    usage: Usage
    finish_reasons: tuple[str, ...]  # of each answer: stop or length
    queue_ms: float  # from the request's arrival in the worker until its prompt began to be read
    first_token_ms: float  # from the request's arrival in the worker
    total_ms: float


@dataclass(frozen=True, slots=True)
class Completion:
    """A whole generation: its answers in order, and what the stream would have said around them."""

    begun: Begun
    texts: tuple[str, ...]
    logprobs: tuple[tuple[TokenScore, ...], ...]  # of each answer; empty unless asked for
    generated: Generated


@dataclass(frozen=True, slots=True)
class Timing:
    """Milliseconds: waiting in the worker's queue, in the model, and in all as the front process saw it."""

    queue_ms: float
    model_ms: float
    total_ms: float


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer and how it was made. `outputs` has one element for each input, in order."""

    model: str
    revision: str
    task: Task
    outputs: Any  # list, or for feature-extraction a float32 array of shape (inputs, dimension)
    tokens: int  # read by the model, special ones included
    input_tokens: tuple[int, ...]  # tokens of each input as given, before any cut
    windows: tuple[int, ...]  # how many windows each input was read in
    truncated: tuple[bool, ...]  # whether the end of each input was not read
    context_length: int | None
    timing: Timing
