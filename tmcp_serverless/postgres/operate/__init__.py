"""Parts for people who run it: findings of `doctor`, rows of `sessions`, missing privileges."""
