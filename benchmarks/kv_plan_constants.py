"""Takes what `ctxpress kv plan` knows of codecs from the tables of docs/kv.md.

Sizes come from the section `kv-quality`, decoding on one thread from `kv-speed`: from its last
table, that of the large shape, where there is one. Codecs that a table lacks keep what they have.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import Any

CONSTANTS = Path(__file__).resolve().parent.parent / "ctxpress/planning/codecs.json"


def section(page: str, name: str) -> str:
    """What stands between a section's markers."""
    found = re.search(rf"<!-- {name}: begin -->(.*?)<!-- {name}: end -->", page, re.S)
    if found is None:
        raise SystemExit(f"the page has no section {name}")
    return found[1]


def sizes(page: str) -> dict[str, float]:
    """Bits per value, by codec."""
    rows = re.findall(r"^\| ([\w-]+) \| ([\d.]+) \|", section(page, "kv-quality"), re.M)
    return {name: float(bits) for name, bits in rows}


def speeds(page: str) -> dict[str, float]:
    """Gigabytes of fp16 that one thread decodes in a second, by codec."""
    rows = re.findall(
        r"^\| ([\w-]+) \| 1 \|(?: [^|]* \|){5} ([\d.]+) \|", section(page, "kv-speed"), re.M
    )
    return {name: float(speed) for name, speed in rows}  # a later table counts


def updated(constants: dict[str, Any], page: str) -> dict[str, Any]:
    """The constants with what the page's tables say."""
    bits, decode = sizes(page), speeds(page)
    codecs = {
        name: {
            "bits_per_value": bits.get(name, codec["bits_per_value"]),
            "decode_gb_per_s": decode.get(name, codec["decode_gb_per_s"]),
        }
        for name, codec in constants["codecs"].items()
    }
    return {**constants, "codecs": codecs}


def rendered(constants: dict[str, Any]) -> str:
    """As the file has them: a line for each codec."""
    lines = [f'    "{name}": {json.dumps(codec)}' for name, codec in constants["codecs"].items()]
    head = f'{{\n  "measured_on": {json.dumps(constants["measured_on"])},\n  "codecs": {{\n'
    return head + ",\n".join(lines) + "\n  }\n}\n"


def main() -> None:
    """Rewrite ``ctxpress/planning/codecs.json``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--docs", type=Path, default=Path("docs/kv.md"))
    page = parser.parse_args().docs.read_text("utf-8")
    text = rendered(updated(json.loads(CONSTANTS.read_text("utf-8")), page))
    CONSTANTS.write_text(text, "utf-8")
    print(text, end="")


if __name__ == "__main__":
    main()
