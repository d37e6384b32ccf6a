# style.gp: what all pictures share. A script sets `width` and `height` in pixels and calls this file, which is its first
# argument, with the others: the format, the file to draw, the path of the data without ending.
# Colours: Okabe and Ito, Color Universal Design (2008), told apart with any kind of colour vision.
black = "#000000"; orange = "#E69F00"; sky = "#56B4E9"; green = "#009E73"
yellow = "#F0E442"; blue = "#0072B2"; vermillion = "#D55E00"; purple = "#CC79A7"; grey = "#999999"

font_name = "DejaVu Sans"
if (ARG1 eq "png") set terminal pngcairo size width,height font font_name.",10" noenhanced background "white"
if (ARG1 eq "svg") set terminal svg size width,height font font_name.",11" noenhanced background "white"
set output ARG2
base = ARG3

set datafile separator "\t"
set encoding utf8
set border 3 linewidth 1 linecolor rgb "#444444"
set tics nomirror out textcolor rgb "#222222"
set grid ytics linetype 1 linewidth 0.6 linecolor rgb "#DDDDDD"
set style fill solid 1.0 noborder
set key outside top center horizontal samplen 1.5 width 1
set title font font_name.",12"
