/* Includes FD_FRAGMENT for every element type of LAPACK: FD_T, of which FD_R is the real part, and
 * FD_C the complex type of the same precision. */
#define FD_T float
#define FD_R float
#define FD_C float _Complex
#define FD_COMPLEX 0
#define FD_NAME(name) name##_f32
#define FD_TURN fd_lapack_turn_4
#include FD_FRAGMENT
#undef FD_T
#undef FD_R
#undef FD_C
#undef FD_NAME
#undef FD_TURN

#define FD_T double
#define FD_R double
#define FD_C double _Complex
#define FD_NAME(name) name##_f64
#define FD_TURN fd_lapack_turn_8
#include FD_FRAGMENT
#undef FD_T
#undef FD_R
#undef FD_C
#undef FD_COMPLEX
#undef FD_NAME
#undef FD_TURN

#define FD_T float _Complex
#define FD_R float
#define FD_C float _Complex
#define FD_COMPLEX 1
#define FD_NAME(name) name##_c64
#define FD_TURN fd_lapack_turn_8
#include FD_FRAGMENT
#undef FD_T
#undef FD_R
#undef FD_C
#undef FD_NAME
#undef FD_TURN

#define FD_T double _Complex
#define FD_R double
#define FD_C double _Complex
#define FD_NAME(name) name##_c128
#define FD_TURN fd_lapack_turn_16
#include FD_FRAGMENT
#undef FD_T
#undef FD_R
#undef FD_C
#undef FD_COMPLEX
#undef FD_NAME
#undef FD_TURN
