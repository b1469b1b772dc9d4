"""The study of docs/study.md, one resumable command: ``make study``."""
