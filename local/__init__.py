"""Run what is deployed on your own machine. README.md beside this file says how."""
