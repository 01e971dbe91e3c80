"""Can somebody work with the synthetic table as with the real one?"""
