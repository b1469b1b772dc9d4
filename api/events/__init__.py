"""Event streams: following runs while they train."""
