"""Template tags of the console; code here makes no queries."""
