"""Form to change a run's name, tags, notes and pin."""

from __future__ import annotations

import streamlit as st

from dashboard.connection import client, shown_errors
from pmae.schema import Run

_TAGS_HELP = "With commas between."


def edit(run: Run) -> None:
    """Draw a button that opens the form; saving redraws the page."""
    # The fields have no keys: one whose value was changed elsewhere is a new one, with that value.
    with st.popover("Edit"), st.form(f"edit_{run.id}", border=False):
        name = st.text_input("Name", run.name, max_chars=120)
        # A tag that holds a comma itself comes from a spec; it would be cut in two here.
        tags = st.text_input("Tags", ", ".join(run.tags), help=_TAGS_HELP)
        notes = st.text_area("Notes", run.notes, max_chars=10_000)
        pinned = st.toggle("Pinned: it cannot be deleted", run.pinned)
        if st.form_submit_button("Save", type="primary"):
            written = {
                "name": name,
                "tags": [tag.strip() for tag in tags.split(",") if tag.strip()],
                "notes": notes,
                "pinned": pinned,
            }
            shown = {
                "name": run.name,
                "tags": [part.strip() for tag in run.tags for part in tag.split(",")],
                "notes": run.notes,
                "pinned": run.pinned,
            }
            with shown_errors():
                client().change(
                    run.id,
                    {field: value for field, value in written.items() if value != shown[field]},
                )
                st.rerun()
