"""What the kit costs, side by side with what it is compared to: `python -m benchmarks`."""
