"""recommend: what would they choose next?"""
