"""The same interactions through the SDK's own transport and through ours: what does the client see?"""
