"""What a person sees: the report page, the leaderboard, the terminal and the figures."""
