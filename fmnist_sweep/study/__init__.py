"""What has happened, durably: the journal of a study, its record, its folder and who holds it."""
