"""What a request may hold and an answer holds: the shapes of the server's JSON, with examples for its OpenAPI."""

from __future__ import annotations

import dataclasses
import time
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from lamina.classical.verdict import Contender as Measured
    from lamina.serve.service import Service

MOST_TEXT = 1_000_000
MOST_OFFERED = 200
"""Categories of a column, or titles, that are offered on the page."""
Text = Annotated[str, Field(max_length=MOST_TEXT)]
Stop = Annotated[str, Field(min_length=1, max_length=200)]
Name = Annotated[str, Field(min_length=1, max_length=500)]


class Strict(BaseModel):
    """Of a request: what it does not know is refused."""

    model_config = ConfigDict(extra="forbid")


# ---------------------------------------------------------------- about


class ProblemDetail(BaseModel):
    message: str
    type: str
    param: str | None = None
    code: str | None = None


class Problem(BaseModel):
    """Every refusal."""

    error: ProblemDetail


class Health(BaseModel):
    status: str
    version: str
    models: list[str]


class Column(BaseModel):
    name: str
    values: list[str]
    """Of a column of categories those that training knows; none for numbers."""


class Contender(BaseModel):
    """Of the verdict."""

    kind: str
    name: str
    told: str
    score_name: str
    value: float
    low: float
    high: float
    """Of the 95 % interval of its score."""

    @classmethod
    def of(cls, one: Measured) -> Contender:
        its = one.score
        return cls(kind=one.kind, name=one.name, told=str(its), score_name=its.name, value=its.value, low=its.low, high=its.high)


class AboutModel(BaseModel):
    """A model, and what it can be asked."""

    id: str
    object: Literal["model"] = "model"
    created: int = 0
    owned_by: str = "lamina"
    task: str
    question: str
    input: str
    actions: list[str]
    report: bool = False
    """Whether the report of its training is there."""
    atlas: bool = False
    """Whether it was looked into after its training: what each layer sees and knows."""
    classes: list[str] = []
    side: int = 0
    """Of pictures, as the network sees them."""
    columns: list[Column] = []
    """Of rows of a table."""
    score: dict[str, Any] | None = None
    verdict: str | None = None
    contenders: list[Contender] = []


class Models(BaseModel):
    object: Literal["list"] = "list"
    data: list[AboutModel]


def about(service: Service) -> AboutModel:
    from lamina.inputs import VectorInput
    from lamina.tasks import find_task

    card, input, verdict = service.model.card, service.model.input, service.model.verdict
    score = card.get("score")
    columns: list[Column] = []
    if isinstance(input, VectorInput):
        columns = [
            Column(name=name, values=list(its or ())[:MOST_OFFERED]) for name, its in zip(input.columns, input.categories, strict=True)
        ]
    ways = verdict.contenders if verdict else ()
    return AboutModel(
        id=service.name, task=service.model.task, question=find_task(service.model.task).question, input=input.kind,
        actions=service.actions,
        report=service.report is not None, atlas=service.atlas is not None, side=getattr(input, "side", 0),
        classes=list(card.get("classes", [])), columns=columns, score=dict(score) if score else None,
        verdict=verdict.sentence if verdict else None,
        contenders=[Contender.of(one) for one in ways],
    )  # fmt: skip


# ---------------------------------------------------------------- values


class ValuesRequest(Strict):
    """Rows of a table by column, or texts."""

    rows: Annotated[list[dict[Name, str | float | bool | None]], Field(fail_fast=True)] | None = Field(
        None, min_length=1, max_length=1_000, examples=[[{"age": 39, "work": "State"}]]
    )
    texts: Annotated[list[Text], Field(fail_fast=True)] | None = Field(None, min_length=1, max_length=1_000, examples=[["a fine film"]])


class Word(BaseModel):
    text: str
    start: float
    end: float
    confidence: float


class Guess(BaseModel):
    label: str
    probability: float


class Prediction(BaseModel):
    """The answer to one value; `error` says why there is none."""

    file: str
    label: str | None = None
    probability: float | None = None
    top: list[Guess] = []
    unknown: bool = False
    words: list[Word] = []
    low: float | None = None
    high: float | None = None
    error: str | None = None

    @classmethod
    def told(cls, name: str, answer: Any) -> Prediction:
        """Of what the output made of a value."""
        from lamina.model import Prediction as Answer

        one = Answer.of(name, answer)
        return cls(
            file=one.file, label=one.label, probability=one.probability, unknown=one.unknown, low=one.low, high=one.high, error=one.error,
            top=[Guess(label=label, probability=share) for label, share in one.top],
            words=[Word(**dataclasses.asdict(word)) for word in one.words],
        )  # fmt: skip


class Predictions(BaseModel):
    model: str
    predictions: list[Prediction]


# ---------------------------------------------------------------- looking inside


class AtlasUnit(BaseModel):
    """One of the most telling units of a layer."""

    number: int
    label: str | None
    """The class that moves it most."""
    share: float | None
    """Of the variance of its signal, what lies between classes."""
    pictures: list[str]
    """The parts of training examples that move it most."""


class AtlasLayer(BaseModel):
    name: str
    kind: str
    trained: bool
    shape: list[int]
    parameters: int
    reads: float | None
    """Share of the answers that a straight line reads from its signals …"""
    random: float | None
    """… and from those of the same layers with random weights."""
    units: list[AtlasUnit]


class Atlas(BaseModel):
    """A network from the raw numbers to the answer, as it was found after its training (lamina.inside.layers)."""

    layers: list[AtlasLayer]
    filters: list[list[list[list[float]]]]
    """Of the first trained layer, as if they lay on the input: [filter][channel][row][column]."""

    @classmethod
    def of(cls, found: dict[str, Any]) -> Atlas:
        reads, random = ({each["name"]: each["score"] for each in found[name]} for name in ("probes", "control"))
        units: dict[str, list[AtlasUnit]] = {}
        for each in found["units"]:
            its = AtlasUnit(
                number=each["number"], label=each["label"], share=each["share"], pictures=[one for one in each["pictures"] if one]
            )
            units.setdefault(each["layer"], []).append(its)
        layers = [
            AtlasLayer(
                name=each["name"], kind=each["kind"], trained=each["trained"], shape=each["shape"], parameters=each["parameters"],
                reads=reads.get(each["name"]), random=random.get(each["name"]), units=units.get(each["name"], []),
            )
            for each in found["layers"]
        ]  # fmt: skip
        return cls(layers=layers, filters=found["seen"].get("values", []))


class Wrong(BaseModel):
    """A test example that was told wrong."""

    name: str
    picture: str = ""
    sound: str = ""
    told: str
    true: str


class Mistakes(BaseModel):
    """Of the test examples, those that the report shows."""

    mistakes: list[Wrong]

    @classmethod
    def of(cls, facts: dict[str, Any]) -> Mistakes:
        told, true = TOLD_AND_TRUE.get(facts.get("kind", "classes"), ("", ""))
        shown = facts.get("shown", []) if told else []
        return cls(
            mistakes=[
                Wrong(**{name: each.get(name, "") for name in ("name", "picture", "sound")}, told=str(each[told]), true=str(each[true]))
                for each in shown
            ]
        )


TOLD_AND_TRUE = {"classes": ("label", "truth"), "numbers": ("told", "wanted"), "transcripts": ("text", "spoken")}
"""What the facts of a report call them, by their kind."""


class Run(BaseModel):
    """A training that is watched."""

    name: str
    task: str
    minutes: float | None
    finished: bool
    plan: dict[str, Any]
    layers: list[dict[str, Any]]
    labels: list[str]
    looks: int


class Runs(BaseModel):
    runs: list[Run]


class Control(Strict):
    action: Literal["pause", "go-on", "stop"]


# ---------------------------------------------------------------- choices


class RecommendRequest(Strict):
    """What somebody chose, by names or titles, the latest last; none: what histories begin with."""

    items: list[Name] = Field([], max_length=10_000, examples=[["Alien (1979)", "Brazil (1985)"]])
    top: int = Field(10, ge=1, le=1_000)
    exclude: list[Name] = Field([], max_length=10_000)
    because: int = Field(2, ge=0, le=20)


class Titles(BaseModel):
    titles: list[str]


class Recommended(BaseModel):
    item: str
    title: str
    score: float
    because: list[str]


class Recommendations(BaseModel):
    recommendations: list[Recommended]


# ---------------------------------------------------------------- people


class Person(BaseModel):
    name: str
    examples: int
    added: str | float | int | None = None


class Enrolled(BaseModel):
    people: list[Person]
    rate: str
    """How many strangers would be let in, in words."""
    warning: str


class Enrollment(BaseModel):
    name: str
    examples: int
    taken: int
    refused: list[str]


class Revoked(BaseModel):
    revoked: str


# ---------------------------------------------------------------- texts, in OpenAI's shapes


class Sampled(BaseModel):
    """What both kinds of texts share. Other fields of OpenAI's are read and left alone."""

    model_config = ConfigDict(extra="ignore")

    model: Name
    max_tokens: int | None = Field(None, ge=1, le=1 << 20)
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    top_k: int | None = Field(None, ge=0, le=1 << 20)
    min_p: float | None = Field(None, ge=0, le=1)
    repetition_penalty: float | None = Field(None, ge=0.01, le=100)
    seed: int | None = Field(None, ge=0, le=(1 << 63) - 1)
    stop: Stop | Annotated[list[Stop], Field(max_length=16, fail_fast=True)] | None = None
    n: int = Field(1, ge=1, le=16)
    stream: bool = False
    stream_options: dict[str, Any] | None = None

    @property
    def tells_usage(self) -> bool:
        return bool((self.stream_options or {}).get("include_usage"))

    def sampled(self, number: int) -> dict[str, Any]:
        """Fields of Sampling for the text of that number; each has a seed of its own."""
        stop = [self.stop] if isinstance(self.stop, str) else self.stop or []
        named = {
            name: value
            for name in ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")
            if (value := getattr(self, name)) is not None
        }
        seed = time.time_ns() % (1 << 62) if self.seed is None else self.seed
        tokens = self._tokens()
        return {**named, **({"tokens": tokens} if tokens else {}), "stop": tuple(stop), "seed": (seed + number) % (1 << 63)}

    def _tokens(self) -> int | None:
        return self.max_tokens


class CompletionRequest(Sampled):
    prompt: Text | Annotated[list[Text], Field(min_length=1, max_length=16)] = Field("", examples=["Once upon a time"])
    echo: bool = False


class Message(BaseModel):
    model_config = ConfigDict(extra="ignore")

    role: Literal["system", "user", "assistant", "developer"]
    content: Text | Annotated[list[dict[str, Any]], Field(max_length=1_000, fail_fast=True)] = Field(examples=["Hello!"])


class ChatRequest(Sampled):
    messages: Annotated[list[Message], Field(fail_fast=True)] = Field(
        min_length=1, max_length=1_000, examples=[[{"role": "user", "content": "Hello!"}]]
    )
    max_completion_tokens: int | None = Field(None, ge=1, le=1 << 20)

    @property
    def turns(self) -> list[tuple[str, str]]:
        """(role, text); the parts of a message that are texts, joined."""
        return [("system" if each.role == "developer" else each.role, _text(each.content)) for each in self.messages]

    def _tokens(self) -> int | None:
        return self.max_completion_tokens or self.max_tokens


def _text(content: str | list[dict[str, Any]]) -> str:
    return content if isinstance(content, str) else "".join(str(part.get("text", "")) for part in content if part.get("type") == "text")


class Usage(BaseModel):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class CompletionChoice(BaseModel):
    index: int
    text: str
    logprobs: None = None
    finish_reason: str | None


class Completion(BaseModel):
    id: str
    object: str
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: Usage | None = None


class AssistantMessage(BaseModel):
    role: Literal["assistant"]
    content: str


class ChatChoice(BaseModel):
    index: int
    message: AssistantMessage
    logprobs: None = None
    finish_reason: str | None


class ChatCompletion(BaseModel):
    id: str
    object: str
    created: int
    model: str
    choices: list[ChatChoice]
    usage: Usage | None = None


class Texts:
    """The texts of one request as they come, whole or piece by piece, in OpenAI's words."""

    def __init__(self, kind: str, name: str, asked: Sampled) -> None:
        """`kind`: text_completion or chat.completion; `name`: of this answer."""
        self.kind, self.asked = kind, asked
        self.asks_roles = kind == "chat.completion"
        self.head = {"id": name, "object": kind, "created": int(time.time()), "model": asked.model}
        self.read: dict[int, int] = {}
        self.made: dict[int, int] = {}
        self.parts: dict[int, str] = {}
        self.reasons: dict[int, str] = {}

    def take(self, row: int, pieces: list[Any]) -> None:
        for piece in pieces:
            self._count(row, piece)

    def _count(self, row: int, piece: Any) -> None:
        self.read[row], self.made[row] = piece.read, piece.made
        self.parts[row] = self.parts.get(row, "") + piece.text
        self.reasons[row] = piece.over

    def whole(self) -> dict[str, Any]:
        choices = []
        for row, text in sorted(self.parts.items()):
            if self.asks_roles:
                own: dict[str, Any] = {"message": {"role": "assistant", "content": text}}
            else:
                assert isinstance(self.asked, CompletionRequest)
                prompts = [self.asked.prompt] if isinstance(self.asked.prompt, str) else self.asked.prompt
                own = {"text": prompts[row] + text if self.asked.echo else text}
            choices.append({"index": row, **own, "logprobs": None, "finish_reason": self.reasons[row] or None})
        return {**self.head, "choices": choices, "usage": self._usage()}

    def begun(self, row: int) -> dict[str, Any]:
        """The first event of an assistant's answer."""
        return self._event([{"index": row, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}])

    def piece(self, row: int, piece: Any) -> dict[str, Any]:
        self._count(row, piece)
        own = {"delta": {"content": piece.text}} if self.asks_roles else {"text": piece.text, "logprobs": None}
        return self._event([{"index": row, **own, "finish_reason": piece.over or None}])

    def usage_alone(self) -> dict[str, Any]:
        return {**self._event([]), "usage": self._usage()}

    def _event(self, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return {**self.head, "object": self.kind + (".chunk" if self.asks_roles else ""), "choices": choices}

    def _usage(self) -> dict[str, int]:
        read, made = sum(self.read.values()), sum(self.made.values())
        return {"prompt_tokens": read, "completion_tokens": made, "total_tokens": read + made}


# ---------------------------------------------------------------- bodies, for the OpenAPI


def body(kind: type[BaseModel], streams: bool = False) -> dict[str, Any]:
    """A JSON body of that shape; its answer may be a stream."""
    found: dict[str, Any] = {"requestBody": {"required": True, "content": {"application/json": {"schema": _plain(kind)}}}}
    if streams:
        stream = {"schema": {"type": "string", "description": "server-sent events, the last of them [DONE]"}}
        found["responses"] = {"200": {"content": {"text/event-stream": stream}}}
    return found


def _plain(kind: type[BaseModel]) -> dict[str, Any]:
    """Its JSON schema with everything in place, for it stands in no list of components."""
    schema = kind.model_json_schema()
    defined = schema.pop("$defs", {})

    def inlined(value: Any) -> Any:
        if isinstance(value, dict):
            if "$ref" in value:
                return inlined(defined[value["$ref"].rsplit("/", 1)[1]])
            return {name: inlined(each) for name, each in value.items()}
        return [inlined(each) for each in value] if isinstance(value, list) else value

    return dict(inlined(schema))


STREAMED = {"responses": {"200": {"content": {"text/event-stream": {"schema": {"type": "string"}}}}}}
_BINARY = {"schema": {"type": "string", "format": "binary"}}
_FORM = {
    "schema": {
        "type": "object",
        "properties": {"file": {"type": "array", "items": {"type": "string", "format": "binary"}, "minItems": 1}},
        "required": ["file"],
    }
}
FILES = {"requestBody": {"required": True, "content": {"application/octet-stream": _BINARY, "multipart/form-data": _FORM}}}
RECORDING = FILES
VALUES = {
    "requestBody": {
        "required": True,
        "content": {
            "application/octet-stream": _BINARY, "multipart/form-data": _FORM, "application/json": {"schema": _plain(ValuesRequest)},
            "text/plain": {"schema": {"type": "string"}},
        },
    }
}  # fmt: skip
