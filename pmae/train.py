"""Train one run: ``python -m pmae.train RUN_DIR`` (:mod:`pmae.training.process.trainer`)."""

import sys

from pmae.training.process.trainer import main

if __name__ == "__main__":
    sys.exit(main())
