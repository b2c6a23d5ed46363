"""What must be so in every log of events; see `timeline.verify`."""
