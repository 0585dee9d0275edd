"""A deployment in small, on this machine: processes behind a balancer, or Lambda's sandboxes.

`tmcp-serverless dev` runs it, and so do tests and demos.
"""
