"""What was decided, written before it is done; and the lock that keeps a second host out."""
