"""One video: open, decode, find shots, window them into clips, measure, pick frames. Knows nothing of Ray."""
