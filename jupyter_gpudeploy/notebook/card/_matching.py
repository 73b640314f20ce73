"""The process that tries a person's pattern: lists of texts in, lists of indices out, a JSON line each.

It is killed by its own alarm when a list takes too long: the matching of `re` cannot be interrupted otherwise.
"""

import json
import re
import signal
import sys

SECONDS = 1.0


def main() -> None:
    """Compile the pattern, then answer until nobody asks any more."""
    signal.setitimer(signal.ITIMER_REAL, 2 * SECONDS)
    try:
        search = re.compile(sys.argv[1], re.IGNORECASE).search
    except (re.error, RecursionError, OverflowError) as error:
        print(json.dumps(f"no regular expression: {error}"), flush=True)  # noqa: T201 - the answer
        return
    print("[]", flush=True)  # noqa: T201 - the answer
    signal.setitimer(signal.ITIMER_REAL, 0)
    for line in sys.stdin:
        signal.setitimer(signal.ITIMER_REAL, SECONDS)
        chosen = [index for index, text in enumerate(json.loads(line)) if search(text)]
        signal.setitimer(signal.ITIMER_REAL, 0)
        print(json.dumps(chosen), flush=True)  # noqa: T201 - the answer


if __name__ == "__main__":
    main()
