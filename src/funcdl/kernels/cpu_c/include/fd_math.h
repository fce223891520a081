/* All elementary functions: fd_<primitive>_f32 and fd_<primitive>_f64. NaN, infinities and the sign
 * of zero come out right without -ffast-math, which would break them. */
#ifndef FD_MATH_H
#define FD_MATH_H

#include "fd_bessel.h"
#include "fd_beta.h"
#include "fd_gamma.h"
#include "fd_inverse.h"
#include "fd_lanes.h"
#include "fd_lgamma.h"
#include "fd_math_f32.h"
#include "fd_math_f64.h"
#include "fd_wide.h"
#include "fd_special.h"

#endif
