"""The colors of all pictures: Okabe and Ito's, which color-blind readers can tell apart (jfly.uni-koeln.de/color)."""

BLUE, ORANGE, GREEN, PINK = "#0072b2", "#e69f00", "#009e73", "#cc79a7"
SKY, RED, BLACK = "#56b4e9", "#d55e00", "#000000"
YELLOW = "#b8a600"  # darker than theirs (#f0e442), which fades on white paper
GRAY, PALE = "#777777", "#dddddd"  # of lines beside the data, and of what was removed
