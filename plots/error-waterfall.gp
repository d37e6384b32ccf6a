# description: from the predicted step time to the measured one, part by part
# data: difference
width = 1000
height = 460
load ARG4.".var"
call ARG1 ARG2 ARG3 ARG4

set title heading
set ylabel axis
set yrange [y_from:y_to]
set xrange [-0.6:7.6]
set xtics scale 0
is_end(p) = p == 0 || p == 7
change(x) = abs(x) < 0.005 ? "0" : sprintf("%+.2f", x)
plot base.".dat" every ::1 using (is_end($1) ? $1 : NaN):(0.5 * ($3 + $4)):(0.36):(0.5 * abs($4 - $3)) \
        with boxxyerror linecolor rgb blue title "step", \
    "" every ::1 using (!is_end($1) && $5 >= 0 ? $1 : NaN):(0.5 * ($3 + $4)):(0.36):(0.5 * abs($4 - $3)) \
        with boxxyerror linecolor rgb vermillion title "measured takes longer", \
    "" every ::1 using (!is_end($1) && $5 < 0 ? $1 : NaN):(0.5 * ($3 + $4)):(0.36):(0.5 * abs($4 - $3)) \
        with boxxyerror linecolor rgb green title "measured is shorter", \
    "" every ::1 using 1:($3 > $4 ? $3 : $4):(is_end($1) ? sprintf("%.2f", $5) : change($5)):xtic(2) \
        with labels offset 0,0.7 notitle, \
    "" every ::1::7 using ($1 + 0.36):4:(0.28):(0) with vectors nohead linewidth 1 linecolor rgb grey notitle
