"""Model variants, speed against quality: `python -m benchmarks.variants DATA --plot FILE`.

DATA is the JSON file that training writes, see `ctxpress.evaluation.variants`. `--write` puts the
picture and the figures behind it into a Markdown page.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from ctxpress.errors import CtxpressError
from ctxpress.evaluation.plots import plot_variants
from ctxpress.evaluation.sections import replace_section
from ctxpress.evaluation.variants import Variant, read_variants


def table(variants: Sequence[Variant]) -> Iterator[str]:
    """A line a variant, the quickest first; a column a keep ratio."""
    ratios = sorted({ratio for variant in variants for ratio in variant.survival}, reverse=True)
    header = ["model", "layers", "tokens/s", *(f"answers at {100 * r:.0f} %" for r in ratios)]
    yield "| " + " | ".join(header) + " |"
    yield "|" + "---|" * len(header)
    for variant in sorted(variants, key=lambda variant: -variant.tokens_per_second):
        cells = [variant.name, str(variant.layers), f"{variant.tokens_per_second:,.0f}"]
        cells += [f"{variant.survival[r]:.3f}" if r in variant.survival else "" for r in ratios]
        yield "| " + " | ".join(cells) + " |"


def main() -> int:
    """Draw and print; exit status 2 and one line for what the caller got wrong."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.variants")
    parser.add_argument("data", type=Path, help="JSON file of model variants")
    parser.add_argument("--plot", type=Path, required=True, help="picture to draw: .svg or .png")
    parser.add_argument("--write", type=Path, help="Markdown file whose section is replaced")
    options = parser.parse_args()
    try:
        variants = read_variants(options.data)
        plot_variants(variants, options.plot)
    except CtxpressError as error:
        print(error, file=sys.stderr)
        return 2
    text = "\n".join(table(variants))
    print(text)
    if options.write:
        link = os.path.relpath(options.plot, options.write.parent)
        picture = f"![Answers that survive against tokens a second, a point a model]({link})"
        replace_section(options.write, "variants", "Speed against quality", f"{picture}\n\n{text}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
