"""Parts of a page that refresh by themselves when something has changed."""
