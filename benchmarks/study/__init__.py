"""The study of docs/study.md, as one resumable command: ``make study``."""
