"""How fast this project is, beside what else one would use and beside the limit of the machine."""
