"""What is computed once and kept: decoded images, features of a frozen backbone."""
