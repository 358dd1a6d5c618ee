"""Content of `registry.json` of an export: all that it says of a model, validated."""

from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import AfterValidator, Field, model_validator

from peculiar.core.params import Section
from peculiar.registry.spending import Round

LONGEST = 100_000  # characters of a text in MLflow's database


def _printable(text: str) -> str:
    """Refuse characters that move a terminal's cursor or worse."""
    if not all(letter.isprintable() or letter in "\n\t" for letter in text):
        raise ValueError("a control character is no part of a text")
    return text


def _alias(name: str) -> str:
    if name.lower() == "latest" or (name[0] in "vV" and name[1:].isdecimal()):
        raise ValueError(f"{name} means a version, and cannot be an alias")
    return name


Text = Annotated[str, Field(max_length=LONGEST), AfterValidator(_printable)]
Key = Annotated[str, Field(pattern=r"^[A-Za-z0-9_./ -]{1,250}$")]
Number = Annotated[str, Field(pattern=r"^[1-9][0-9]{0,8}$")]
Alias = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,250}$"), AfterValidator(_alias)]


class Exported(Section):
    """One version.

    Attributes
    ----------
    tags : mapping of str to str
        Its tags.
    description : str
        Its model card.
    run_id : str
        Its run in the registry that exported it.
    """

    tags: Mapping[Key, Text]
    description: Text
    run_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]


class Index(Section):
    """A registered model.

    Attributes
    ----------
    model : str
        Its name.
    aliases : mapping of str to str
        Version of each alias.
    history : tuple of mapping
        Moves of the aliases.
    comparisons : tuple of Round
        See `peculiar.registry.ledger`.
    versions : mapping of str to Exported
        Each version by its number.
    """

    model: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,200}$")]
    aliases: Mapping[Alias, Number]
    history: tuple[Mapping[str, Any], ...]
    comparisons: tuple[Round, ...] = ()
    versions: Annotated[Mapping[Number, Exported], Field(min_length=1)]

    @model_validator(mode="after")
    def _known(self) -> Self:
        for alias, number in self.aliases.items():
            if number not in self.versions:
                raise ValueError(f"{alias} is version {number}, which is not there")
        return self
