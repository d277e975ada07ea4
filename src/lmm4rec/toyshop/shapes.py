"""Shapes of the items: the parts of each variant of a category, as paths of `outlines`."""

from __future__ import annotations

from lmm4rec.toyshop.outlines import Part

SHAPES: dict[str, tuple[tuple[Part, ...], ...]] = {  # the variants of each category
    "mug": (
        (
            Part("base", "M 68 36 C 92 32 92 70 67 66", 7),
            Part("body", "M 22 24 L 72 24 L 70 76 Q 69 84 60 84 L 34 84 Q 25 84 24 76 Z"),
            Part("pale", "E 47 24 25 6"),
            Part("deep", "E 47 24.8 21 4.2"),
        ),
        (
            Part("base", "M 72 42 C 96 38 92 68 66 68", 7),
            Part("body", "M 18 30 L 76 30 C 78 62 68 82 47 82 C 26 82 16 62 18 30 Z"),
            Part("base", "R 35 80 59 86 2"),
            Part("pale", "E 47 30 29 6.5"),
            Part("deep", "E 47 30.8 25 4.6"),
        ),
    ),
    "teapot": (
        (
            Part("base", "M 74 44 C 98 34 98 74 72 70", 6.5),
            Part("base", "M 32 68 C 18 64 18 48 5 40 L 13 35 C 24 40 26 48 36 50 Z"),
            Part("body", "M 50 36 C 76 36 84 52 80 66 C 77 78 68 84 50 84 C 32 84 23 78 20 66 C 16 52 24 36 50 36 Z"),
            Part("base", "M 32 40 C 34 28 66 28 68 40 Q 50 46 32 40 Z"),
            Part("deep", "E 50 26 5.5 5.5"),
        ),
        (
            Part("wood", "M 28 40 C 26 4 74 4 72 40", 5),
            Part("base", "M 28 70 C 14 66 16 52 3 46 L 10 40 C 22 44 24 50 32 52 Z"),
            Part("body", "M 24 46 Q 50 34 76 46 C 86 60 84 84 70 86 L 30 86 C 16 84 14 60 24 46 Z"),
            Part("pale", "M 34 43 Q 50 34 66 43 Q 50 49 34 43 Z"),
            Part("wood", "E 50 36 4.5 4.5"),
        ),
    ),
    "vase": (
        (
            Part("leaf", "M 49 34 Q 46 18 36 8", 2.2),
            Part("leaf", "M 51 34 Q 56 20 66 12", 2.2),
            Part("leaf", "M 36 8 Q 44 6 46 18 Q 38 18 36 8 Z"),
            Part("leaf", "M 66 12 Q 54 10 55 22 Q 64 22 66 12 Z"),
            Part("body", "M 38 30 L 62 30 C 60 40 78 46 77 64 C 76 80 66 90 61 90 L 39 90 C 34 90 24 80 23 64 "
                         "C 22 46 40 40 38 30 Z"),
            Part("deep", "E 50 30 12 3"),
        ),
        (
            Part("body", "M 42 10 L 58 10 C 56 22 57 30 60 38 C 74 48 76 82 64 90 L 36 90 C 24 82 26 48 40 38 "
                         "C 43 30 44 22 42 10 Z"),
            Part("deep", "E 50 10 8 2.6"),
        ),
        (
            Part("base", "M 30 36 C 10 34 12 62 28 60", 5),
            Part("base", "M 70 36 C 90 34 88 62 72 60", 5),
            Part("body", "M 32 14 L 68 14 C 62 24 76 40 74 58 C 72 74 64 78 62 88 L 38 88 C 36 78 28 74 26 58 "
                         "C 24 40 38 24 32 14 Z"),
            Part("deep", "E 50 14 18 4"),
        ),
    ),
    "plate": (
        (Part("body", "E 50 50 42 42"), Part("pale", "E 50 50 24 24"), Part("base", "E 50 50 19 19")),
        (
            Part("pale", "E 50 50 42 42"),
            Part("body", "E 50 50 34 34"),
        ),
    ),
    "lamp": (
        (
            Part("metal", "R 47 44 53 82 1"),
            Part("wood", "M 30 90 Q 30 81 42 80 L 58 80 Q 70 81 70 90 Z"),
            Part("glow", "E 50 54 31 4.5"),
            Part("body", "M 34 10 L 66 10 L 83 54 Q 50 60 17 54 Z"),
        ),
        (
            Part("pale", "M 41 48 L 59 48 C 58 66 62 76 70 88 Q 50 93 30 88 C 38 76 42 66 41 48 Z"),
            Part("glow", "E 50 52 33 5"),
            Part("body", "M 14 52 C 14 24 34 12 50 12 C 66 12 86 24 86 52 Q 50 58 14 52 Z"),
        ),
    ),
    "clock": (
        (
            Part("body", "E 50 50 43 43"),
            Part("white", "E 50 50 26 26"),
            Part("ink", "M 50 50 L 50 32", 3.4),
            Part("ink", "M 50 50 L 63 57", 3.4),
            Part("base", "E 50 50 3.6 3.6"),
        ),
        (
            Part("metal", "M 34 78 L 26 92", 5),
            Part("metal", "M 66 78 L 74 92", 5),
            Part("metal", "M 50 22 L 50 10", 4),
            Part("base", "M 17 30 Q 18 12 38 14 Z"),
            Part("base", "M 83 30 Q 82 12 62 14 Z"),
            Part("body", "E 50 54 36 36"),
            Part("white", "E 50 54 23 23"),
            Part("ink", "M 50 54 L 50 38", 3.4),
            Part("ink", "M 50 54 L 41 60", 3.4),
            Part("base", "E 50 54 3.4 3.4"),
        ),
    ),
    "chair": (
        (
            Part("wood", "M 34 66 L 33 86", 4.5),
            Part("wood", "M 66 66 L 67 86", 4.5),
            Part("wood", "M 24 68 L 20 94", 5),
            Part("wood", "M 76 68 L 80 94", 5),
            Part("wood", "M 34 48 L 33 60", 4.5),
            Part("wood", "M 66 48 L 67 60", 4.5),
            Part("body", "M 28 16 Q 28 8 36 8 L 64 8 Q 72 8 72 16 L 70 50 Q 50 55 30 50 Z"),
            Part("body", "M 24 58 L 76 58 L 84 70 Q 50 76 16 70 Z"),
        ),
        (
            Part("wood", "M 26 80 L 23 93", 5),
            Part("wood", "M 74 80 L 77 93", 5),
            Part("body", "M 22 30 Q 22 10 42 10 L 58 10 Q 78 10 78 30 L 78 70 L 22 70 Z"),
            Part("pale", "R 24 56 76 76 6"),
            Part("body", "R 24 68 76 84 3"),
            Part("base", "R 10 42 27 84 8"),
            Part("base", "R 73 42 90 84 8"),
        ),
    ),
    "cushion": (
        (Part("body", "M 10 12 Q 50 22 90 12 Q 80 50 90 88 Q 50 78 10 88 Q 20 50 10 12 Z"),),
        (
            Part("deep", "M 12 32 L 8 29", 4),
            Part("deep", "M 88 32 L 92 29", 4),
            Part("deep", "M 12 70 L 8 73", 4),
            Part("deep", "M 88 70 L 92 73", 4),
            Part("body", "M 10 29 Q 50 36 90 29 Q 84 51 90 73 Q 50 66 10 73 Q 16 51 10 29 Z"),
        ),
    ),
    "shirt": (
        (
            Part("body", "M 36 12 Q 50 26 64 12 L 78 18 L 96 42 L 82 53 L 75 45 L 75 88 L 25 88 L 25 45 L 18 53 "
                         "L 4 42 L 22 18 Z"),
            Part("pale", "M 36 13 Q 50 28 64 13", 4),
        ),
        (
            Part("body", "M 37 12 Q 50 22 63 12 L 78 18 Q 88 46 94 76 L 81 81 L 75 52 L 75 84 L 25 84 L 25 52 L 19 81 "
                         "L 6 76 Q 12 46 22 18 Z"),
            Part("base", "M 6 76 L 19 81 L 18 87 L 5 82 Z"),
            Part("base", "M 94 76 L 81 81 L 82 87 L 95 82 Z"),
            Part("base", "R 24 83 76 91 2"),
            Part("base", "M 37 12 Q 50 25 63 12", 5),
        ),
    ),
    "hat": (
        (
            Part("pale", "E 50 15 11 11"),
            Part("body", "M 16 70 C 12 32 32 20 50 20 C 68 20 88 32 84 70 Z"),
            Part("base", "R 11 64 89 86 8"),
        ),
        (
            Part("body", "E 50 66 47 15"),
            Part("body", "M 27 64 C 26 26 40 22 50 22 C 60 22 74 26 73 64 Q 50 72 27 64 Z"),
            Part("deep", "M 27 55 Q 50 63 73 55 L 73 65 Q 50 73 27 65 Z"),
        ),
        (
            Part("base", "M 58 62 Q 98 54 97 70 Q 78 66 58 74 Z"),
            Part("body", "M 12 72 C 8 36 26 24 44 24 C 66 24 78 42 77 64 Q 46 78 12 72 Z"),
            Part("deep", "E 43 23 4 2.6"),
        ),
    ),
    "sneaker": (
        (
            Part("body", "M 12 36 Q 24 42 36 30 C 42 44 52 52 68 55 C 86 58 93 64 93 76 L 9 76 C 7 60 11 48 12 36 Z"),
            Part("white", "M 76 56 C 90 60 93 66 93 76 L 75 76 Q 71 64 76 56 Z"),
            Part("white", "M 6 73 L 95 73 Q 98 86 87 86 L 15 86 Q 4 86 6 73 Z"),
            Part("white", "M 43 41 L 34 48", 3.4),
            Part("white", "M 50 47 L 42 55", 3.4),
            Part("white", "M 59 52 L 52 61", 3.4),
        ),
        (
            Part("body", "M 16 14 L 46 12 Q 48 34 54 44 C 62 54 88 52 91 76 L 12 76 C 14 54 18 36 16 14 Z"),
            Part("white", "M 76 54 C 87 58 91 66 91 76 L 74 76 Q 70 64 76 54 Z"),
            Part("white", "M 8 73 L 93 73 Q 96 87 85 87 L 17 87 Q 6 87 8 73 Z"),
            Part("white", "M 48 22 L 38 25", 3.4),
            Part("white", "M 50 32 L 40 36", 3.4),
            Part("white", "M 54 42 L 45 48", 3.4),
            Part("white", "M 62 50 L 54 57", 3.4),
        ),
    ),
    "backpack": (
        (
            Part("deep", "M 41 14 C 41 0 59 0 59 14", 4.5),
            Part("deep", "M 24 44 Q 10 58 22 78", 6),
            Part("deep", "M 76 44 Q 90 58 78 78", 6),
            Part("body", "M 22 36 C 22 14 38 10 50 10 C 62 10 78 14 78 36 L 80 80 Q 80 90 70 90 L 30 90 "
                         "Q 20 90 20 80 Z"),
            Part("deep", "M 32 38 Q 50 30 68 38", 2.6),
            Part("base", "R 29 56 71 84 8"),
            Part("deep", "M 34 64 L 66 64", 2.6),
        ),
        (
            Part("deep", "M 22 44 Q 8 58 20 80", 6),
            Part("deep", "M 78 44 Q 92 58 80 80", 6),
            Part("base", "R 20 26 80 90 11"),
            Part("body", "M 20 26 Q 20 12 34 12 L 66 12 Q 80 12 80 26 L 80 50 Q 80 62 68 62 L 32 62 Q 20 62 20 50 Z"),
            Part("wood", "R 33 50 40 76 2"),
            Part("wood", "R 60 50 67 76 2"),
            Part("metal", "R 32 60 41 67 1"),
            Part("metal", "R 59 60 68 67 1"),
        ),
    ),
    "umbrella": (
        (
            Part("wood", "M 50 44 L 50 84 Q 50 94 42 94 Q 34 94 34 86", 4),
            Part("metal", "M 50 12 L 50 5", 3),
            Part("body", "M 5 54 C 8 26 28 11 50 11 C 72 11 92 26 95 54 Q 87 45 80 54 Q 72 45 65 54 Q 57 45 50 54 "
                         "Q 43 45 35 54 Q 28 45 20 54 Q 13 45 5 54 Z"),
            Part("deep", "M 50 12 Q 37 26 35 53", 1.4),
            Part("deep", "M 50 12 Q 63 26 65 53", 1.4),
        ),
        (
            Part("wood", "M 50 18 L 50 90", 3.6),
            Part("wood", "M 40 92 L 60 92", 5),
            Part("body", "M 6 50 Q 18 28 50 14 Q 82 28 94 50 L 73 46 L 50 50 L 27 46 Z"),
            Part("deep", "M 50 14 Q 33 30 27 46", 1.4),
            Part("deep", "M 50 14 Q 67 30 73 46", 1.4),
        ),
    ),
    "kite": (
        (
            Part("ink", "M 50 74 Q 64 80 52 86 Q 40 92 54 98", 1.6),
            Part("base", "M 56 80 L 66 76 L 64 86 Z"),
            Part("base", "M 47 90 L 37 86 L 39 96 Z"),
            Part("body", "M 50 3 L 82 34 L 50 76 L 18 34 Z"),
            Part("deep", "M 50 3 L 50 76", 1.6),
            Part("deep", "M 18 34 L 82 34", 1.6),
        ),
        (
            Part("ink", "M 50 60 Q 40 74 50 84 Q 58 92 48 99", 1.6),
            Part("base", "M 50 20 L 62 58 L 50 72 L 38 58 Z"),
            Part("body", "M 50 8 Q 54 8 57 12 L 98 62 L 60 52 L 50 60 L 40 52 L 2 62 L 43 12 Q 46 8 50 8 Z"),
            Part("deep", "M 50 8 L 50 60", 1.8),
        ),
    ),
    "notebook": (
        (
            Part("white", "R 26 12 82 92 4"),
            Part("body", "R 20 8 78 88 5"),
            Part("deep", "R 20 8 32 88 4"),
            Part("white", "R 42 24 68 40 2"),
            Part("ink", "M 47 32 L 63 32", 1.8),
        ),
        (
            Part("body", "R 22 12 80 92 4"),
            *(Part("metal", f"M 16 {y} L 28 {y}", 3.4) for y in (22, 34, 46, 58, 70, 82)),
            Part("deep", "M 68 12 L 68 92", 3.6),
        ),
    ),
    "rocket": (
        (
            Part("flame", "M 42 76 Q 44 92 50 99 Q 56 92 58 76 Z"),
            Part("deep", "M 34 52 Q 14 62 16 88 Q 26 76 38 76 Z"),
            Part("deep", "M 66 52 Q 86 62 84 88 Q 74 76 62 76 Z"),
            Part("body", "M 50 2 C 70 18 76 48 65 78 L 35 78 C 24 48 30 18 50 2 Z"),
            Part("white", "E 50 36 9.5 9.5"),
            Part("glass", "E 50 36 6.2 6.2"),
        ),
    ),
}  # fmt: skip
