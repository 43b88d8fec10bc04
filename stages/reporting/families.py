"""Families of mediums: those that are made alike, and so are taken for each other."""

# The first family that has a word of the medium's name is its own. So "wood engraving" is a
# print, not wood, and "silk and metal thread" is a textile.
FAMILIES = {
    "print techniques": (
        "engraving",
        "etching",
        "lithograph",
        "woodblock",
        "woodcut",
        "linocut",
        "screenprint",
    ),
    "textiles": ("silk", "fabric", "textile", "woven", "wool", "cotton", "tapestry"),
    "paintings and drawings": (
        "canvas",
        "oil",
        "ink",
        "graphite",
        "chalk",
        "watercolor",
        "watercolour",
        "tempera",
        "painting",
        "miniature",
        "drawing",
        "icon",
    ),
    "ceramics": (
        "ceramic",
        "clay",
        "faience",
        "porcelain",
        "earthenware",
        "stoneware",
        "terracotta",
        "pottery",
    ),
    "metals": ("bronze", "gold", "iron", "silver", "steel", "copper", "brass", "metal"),
    "stone": ("limestone", "marble", "stone", "granite", "alabaster"),
    "wood": ("wood", "wooden"),
}


def family_of(medium: str) -> str | None:
    """The family of a medium by the words of its name, None when no word is known."""
    name = medium.lower()
    words = set("".join(char if char.isalpha() else " " for char in name).split())
    for family, known in FAMILIES.items():
        if words & set(known):
            return family
    return None
