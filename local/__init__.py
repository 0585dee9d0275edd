"""Run the deployed functions on your own machine. README.md beside this file has the instructions."""
