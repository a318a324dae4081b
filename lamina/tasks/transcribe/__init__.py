"""transcribe: what was said?"""
