"""What a name may be, and what folder it gets."""

import pytest

from efface.author.name import Name, is_name, pack_of, parse_name
from efface.errors import ConceptError


@pytest.mark.parametrize(
    ("text", "name", "asked", "slug"),
    [
        ("The Beatles", Name("The Beatles"), "The Beatles", "beatles"),
        ("Queen: the rock band", Name("Queen", "the rock band"), "Queen (the rock band)", "queen"),
        ("  Ludwig\u00a0van   Beethoven ", Name("Ludwig van Beethoven"), "Ludwig van Beethoven", "ludwig-van-beethoven"),
        ("AC/DC", Name("AC/DC"), "AC/DC", "ac-dc"),
        ("Pokémon", Name("Pokémon"), "Pokémon", "pokemon"),
        ("1984", Name("1984"), "1984", "1984"),
        ("東京", Name("東京"), "東京", "concept-130016b2"),
    ],
)
def test_a_name_with_or_without_what_it_is(text: str, name: Name, asked: str, slug: str) -> None:
    found = parse_name(text)
    assert found == name
    assert found.asked == asked
    assert found.slug == slug


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "has no letters"),
        ("   ", "has no letters"),
        ("?!", "has no letters"),
        ("a" * 10_000, "a name of 10,000 characters; expected at most 120"),
        ("Queen: " + "b" * 500, "expected at most 120"),
        ("<b>Queen</b>", "holds '<'"),
        ("{title}", "holds '{'"),
        ("../../etc", "holds '../'"),
        ("/etc/passwd", "holds '/'"),
        ("~/packs", "holds '~'"),
        ("a\x1b[2Jb", "holds '\\x1b'"),
        ("$(id)", "holds '$'"),
    ],
)
def test_what_is_no_name_is_one_line(text: str, says: str) -> None:
    with pytest.raises(ConceptError) as caught:
        parse_name(text)
    assert says in str(caught.value)
    assert len(str(caught.value)) < 300
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("The Beatles", True),
        ("chess club", True),
        ("Mozart", True),
        ("東京", True),
        ("ancient-egpyt", False),
        ("mozart", False),
        (" ", False),
    ],
)
def test_a_name_and_a_misspelt_pack_are_told_apart(word: str, meant: bool) -> None:
    assert is_name(word) == meant


@pytest.mark.parametrize(
    ("name", "pack"), [("Ancient Egypt", "ancient-egypt"), ("the solar system", "solar-system"), ("Queen", None)]
)
def test_a_built_in_pack_on_the_same_thing_is_found(name: str, pack: str | None) -> None:
    assert pack_of(Name(name)) == pack
