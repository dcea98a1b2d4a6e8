"""How fast this project is, compared with its alternatives and with the limits of the machine."""
