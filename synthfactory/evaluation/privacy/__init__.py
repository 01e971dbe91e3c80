"""Does the synthetic table say more about the people who were learnt than about strangers?"""
