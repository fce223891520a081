/* Modified Bessel functions of the first kind, times exp(-|x|): polynomials for seven ranges, by
 * interpolation in Chebyshev's nodes, in x below 8 and in 1/x above. */
#ifndef FD_BESSEL_H
#define FD_BESSEL_H

#include "fd_wide.h"

/* The coefficient of each power of the distance from the range's middle, for all ranges. */
#define FD_BESSEL_TERMS 18
static const double fd_bessel_c0[FD_BESSEL_TERMS][7] __attribute__((unused)) = {
    {0x1.4a42101eb0f47p-1, 0x1.6665f52e7821fp-2, 0x1.e641863f98943p-3, 0x1.77e43edd1b4cap-3,
    0x1.3adadacc3f204p-3, 0x1.9d95f3db6c2d7p-2, 0x1.9a2444cad63c4p-2},
    {-0x1.f45759d502996p-2, -0x1.0c67c31ab6966p-3, -0x1.606769247c6a3p-5, -0x1.409c6dea4643p-6,
    -0x1.77250ff0ab568p-7, 0x1.cb893ff82f00ap-5, 0x1.a7a0f52d8b30ap-5},
    {0x1.542a936ca349ep-2, 0x1.04e0a9205d5fap-4, 0x1.8656cda016d7dp-7, 0x1.9fabce8688633p-9,
    0x1.50da6f0ca007cp-10, 0x1.4669d4382f8d7p-5, 0x1.fd45ca44d6f32p-6},
    {-0x1.67fb9a0887f4ep-3, -0x1.cf171fac1f8c1p-6, -0x1.d7d6e55b3addbp-9, -0x1.303135273a00dp-11,
    -0x1.5240d5e85ea41p-13, 0x1.fddc9391db695p-5, 0x1.25cd11bbd26f7p-5},
    {0x1.320b2762aa328p-4, 0x1.636cc12970016p-7, 0x1.19f5ef94942a1p-10, 0x1.d957dc986ccccp-14,
    0x1.67b1a4e3394d9p-16, 0x1.782a343580ec5p-3, 0x1.02d40e5a56271p-4},
    {-0x1.b071dc7f25056p-6, -0x1.d6a728285d596p-9, -0x1.3d18c1c795811p-12, -0x1.7ae5f1f352aa4p-16,
    -0x1.8d791e76233e5p-19, 0x1.c6382f033636p-1, 0x1.3a08ca32c22e9p-3},
    {0x1.04c51b562fe9dp-7, 0x1.0f8df37952d22p-10, 0x1.47f0c3611f33ap-14, 0x1.2f631020fa944p-18,
    0x1.c3e2967934535p-22, 0x1.e25432228be5bp1, 0x1.ef681e6be8e7bp-2},
    {-0x1.1202940a6a72cp-9, -0x1.1472ebaebd51ep-12, -0x1.35600628bbaffp-16,
    -0x1.da6c834c6d61cp-21, -0x1.05e2aae32be2ep-24, -0x1.31b6662ab7998p4, 0x1.ea5276912d08ep0},
    {0x1.fddd615d13801p-12, 0x1.f65cd80d9835fp-15, 0x1.0a183206e8df3p-18, 0x1.63c6350c5bf6ap-23,
    0x1.321aceb92a892p-27, -0x1.fe49c8aee5d59p8, 0x1.297968750075dp3},
    {-0x1.a9735507ede1ep-14, -0x1.9b94f9414cb0fp-17, -0x1.a291ce9e11391p-21,
    -0x1.f9e99413162d7p-26, -0x1.645200028eefcp-30, -0x1.7dcc5a593c1a6p10, 0x1.b42648441aa72p5},
    {0x1.41c13f402ce43p-16, 0x1.32c4e4c2569c6p-19, 0x1.2e5c9f90cc765p-23, 0x1.52e52c9b03287p-28,
    0x1.97f9ae1e3c8ffp-33, 0x1.41a5f8aa50d05p15, 0x1.83893b14710bbp8},
    {-0x1.bcea774170d09p-19, -0x1.a335481740182p-22, -0x1.9324634c714eap-26,
    -0x1.aa9d3384ea81bp-31, -0x1.c694aff7e2f6fp-36, 0x1.7ebb824492bb4p17, 0x1.94b9a2ac382dp11},
    {0x1.1b47110248034p-21, 0x1.084fad93780a7p-24, 0x1.f26b9164dd38fp-29, 0x1.f86b4e7e01beep-34,
    0x1.e8ed3d99ca15dp-39, -0x1.ea20f46bbe42bp21, 0x1.76bcc2b2f8df7p14},
    {-0x1.4e423ef60006ep-24, -0x1.3553246e25ec3p-27, -0x1.1ef8ca6f3bba6p-31,
    -0x1.18581bde8bb9fp-36, -0x1.f8c36762376d2p-42, -0x1.3be92e8f67aecp23, 0x1.465c63a1e168cp18},
    {0x1.6f6608b269d83p-27, 0x1.51922487a0f2ep-30, 0x1.34c86968fa9c6p-34, 0x1.2506eb41b2532p-39,
    0x1.f1dd276e1b261p-45, 0x1.8c3a76611f776p28, 0x1.cf8f9f876062fp23},
    {-0x1.7a00760fd6761p-30, -0x1.593bc85100e4bp-33, -0x1.3845eca1a5cdbp-37,
    -0x1.218c87765772dp-42, -0x1.d59f1315b8f86p-48, -0x1.64368d22fa7d1p29, 0x1.a1ce375bf1908p27},
    {0x1.72990224b3624p-33, 0x1.534d1023bec1bp-36, 0x1.36392f84bbad5p-40, 0x1.1d67ba2322613p-45,
    0x1.bc921d8cb1f4ep-51, -0x1.bb8ad66304543p34, -0x1.3d5ea03bdf099p31},
    {-0x1.517b18c55dcbbp-36, -0x1.3353e02a7f9aap-39, -0x1.161d9bb6612fbp-43,
    -0x1.f709e3099ed77p-49, -0x1.7c3cbc3f3ad3bp-54, 0x1.50b07375876f2p37, -0x1.cef68d8ccbed1p35}};
static const double fd_bessel_c1[FD_BESSEL_TERMS][7] __attribute__((unused)) = {
    {0x1.40598cd0be9efp-2, 0x1.c064274239ad7p-3, 0x1.8e27abf67979ap-3, 0x1.4fd0b11fd2844p-3,
    0x1.236889cd346adp-3, 0x1.89b1add3254e2p-2, 0x1.93ae76b00177p-2},
    {-0x1.18b77f98f549p-2, -0x1.e1c67e964db3ap-9, -0x1.3a7804a8e1fc9p-6, -0x1.b162f49148546p-7,
    -0x1.22ee742d83549p-7, -0x1.470fe5abaa63ep-3, -0x1.38a200a5fb758p-3},
    {0x1.43a2afe3328e6p-3, -0x1.59c2ba82e925cp-6, 0x1.23ad0cdd558d1p-10, 0x1.770dcd5239c56p-10,
    0x1.a4043daaf9148p-11, -0x1.01052113f1b3cp-4, -0x1.a179cca8095ap-5},
    {-0x1.1e1fec999879p-4, 0x1.ef84c54d80ebfp-7, 0x1.7053e737b53f7p-11, -0x1.0e151b6c0ed8fp-13,
    -0x1.3cd006ed83ffbp-14, -0x1.4ee22c1f62c0ap-4, -0x1.947d7ad1192c6p-5},
    {0x1.9ce602eaa3267p-6, -0x1.d1c86212095dbp-8, -0x1.c9a40a939b4a5p-12, -0x1.1e475eeb58458p-24,
    0x1.bd17c7658cfe6p-18, -0x1.c1904ecc0c81dp-3, -0x1.47243a74c6b31p-4},
    {-0x1.f8446b39c2dfcp-8, 0x1.5802b2439c10ap-9, 0x1.5da0c69463058p-13, 0x1.30ba98f96b2fap-18,
    -0x1.d4796cd990f7ap-22, -0x1.02ea2ebeb2edcp0, -0x1.792d70963f514p-3},
    {0x1.0b166f06b891fp-9, -0x1.a87651f0f033bp-11, -0x1.aaee8ecc2b436p-15, -0x1.beef8b06e8dcfp-20,
    -0x1.9a8525123ee7cp-28, -0x1.167df4d3f19e6p2, -0x1.1f8e8c3f6b412p-1},
    {-0x1.f3ba1b41f58d3p-12, 0x1.c3d3d8bcaa73ap-13, 0x1.bda0bbaf0d76cp-17, 0x1.da3fcd3ca6eabp-22,
    0x1.61c11e6c2e441p-27, 0x1.240ceb7ce09b6p4, -0x1.15be344ebf609p1},
    {0x1.a29fea698af2fp-14, -0x1.a7b258c5dc9a8p-15, -0x1.9997ace39012ep-19,
    -0x1.aac1234037dd3p-24, -0x1.7b05c5480de12p-29, 0x1.0f95069878835p9, -0x1.4ad9c1245b881p3},
    {-0x1.3d8109a399eaep-16, 0x1.6357433f0940ap-17, 0x1.5155c84b59166p-21, 0x1.55537032bc515p-26,
    0x1.334c429470d5bp-31, 0x1.cbeff9243c18dp10, -0x1.de152ccfae2f1p5},
    {0x1.b7fe4e7c7bf18p-19, -0x1.0da45e2b3d9e8p-19, -0x1.f7eaccc211c09p-24,
    -0x1.ef65e72d63ee3p-29, -0x1.b2257e14e58c6p-34, -0x1.4b0e1d6b8961bp15, -0x1.a3a0332bd0171p8},
    {-0x1.189d7e92d2f5p-21, 0x1.75b95bf2abe21p-22, 0x1.587a4ddad5abcp-26, 0x1.49fe78e35be9p-31,
    0x1.16cb46b4837e1p-36, -0x1.b70d26e0cc6efp17, -0x1.b22c6a5f6dfb3p11},
    {0x1.4b8ecf740bb19p-24, -0x1.dcaf044b68598p-25, -0x1.b23e1434c3792p-29,
    -0x1.96b5296e26504p-34, -0x1.4b51d13f7221fp-39, 0x1.f58e692d87fddp21, -0x1.91159b3f2ef3bp14},
    {-0x1.6cdb3f3603511p-27, 0x1.1991ca749a3e4p-27, 0x1.fbcc7dc951f8fp-32, 0x1.d26e88820c98ap-37,
    0x1.6f9f875285a47p-42, 0x1.85a04b07a44fap23, -0x1.56aea1ea97181p18},
    {0x1.77acc6ff7b91dp-30, -0x1.35b549c421331p-30, -0x1.149d03f3b55edp-34,
    -0x1.f367e606e3c01p-40, -0x1.7e6cacb2089c9p-45, -0x1.995e1f6874e41p28, -0x1.e3236f2ced9c5p23},
    {-0x1.6b7f1bf586e6cp-33, 0x1.3edc89153abe6p-33, 0x1.1aa0de89f9241p-37, 0x1.f6fe23ce323f6p-43,
    0x1.77a229b9109e8p-48, 0x1.152e369b497e6p29, -0x1.b6616b430685ap27},
    {0x1.4fd9ac82d510ap-36, -0x1.3b3f9d128fb15p-36, -0x1.1b5b6dea4a6a6p-40,
    -0x1.f818f05d2114dp-46, -0x1.6fbacfd89fe34p-51, 0x1.cff8dd38a1ca7p34, 0x1.4580e82ffeacep31},
    {-0x1.2197b01994cc9p-39, 0x1.1ef40e60ce1a1p-39, 0x1.ffb433316f7f7p-44, 0x1.c1ba19e4e5497p-49,
    0x1.4226ac59339abp-54, -0x1.4596d437111e8p37, 0x1.dfdd125456913p35}};

/* `near` is what the polynomial of a range below 8 is to be multiplied by; above it is 1 / sqrt(a),
 * whose rounding `error` goes into the polynomial. */
FD_INLINE double fd_bessel(double a, double near, const double (*c)[7]) {
  static const double middle[] = {0.5, 1.625, 3.125, 5.0, 7.0, 0.09375, 0.03125};
  double far = a < 8.0 ? 8.0 : a, inverse = 1.0 / far;
  double quarter = 0.25 * far, root = fd_sqrt_f64(quarter), factor = 1.0 / root; /* 2 / sqrt(a) */
  fd_wide square = fd_wide_product(root, root), one = fd_wide_product(factor, root);
  double error = (1.0 - one.high) - one.low - 2.0 * ((quarter - square.high) - square.low) * inverse;
  int64_t i = (int64_t)(a >= 1.0) + (a >= 2.25) + (a >= 4.0) + (a >= 6.0) + (a >= 8.0) + (a >= 16.0);
  double t = (a < 8.0 ? a : inverse) - middle[i], p = 0;
  for (int k = FD_BESSEL_TERMS - 1; k >= 1; k--) p = fd_fma_f64(p, t, c[k][i]);
  double y = c[0][i] + fd_fma_f64(p, t, a < 8.0 ? 0.0 : c[0][i] * error);
  return a == FD_INF_F64 ? 0.0 : y * (a < 8.0 ? near : 0.5 * factor);
}

FD_INLINE double fd_bessel_i0e_f64(double x) {
  return x != x ? x : fd_bessel(fd_abs_f64(x), 1.0, fd_bessel_c0);
}
/* Below 1 the polynomial is that of the function over x. */
FD_INLINE double fd_bessel_i1e_f64(double x) {
  double a = fd_abs_f64(x);
  return x != x ? x : fd_copysign_f64(fd_bessel(a, a < 1.0 ? a : 1.0, fd_bessel_c1), x);
}

FD_INLINE float fd_bessel_i0e_f32(float x) { return (float)fd_bessel_i0e_f64((double)x); }
FD_INLINE float fd_bessel_i1e_f32(float x) { return (float)fd_bessel_i1e_f64((double)x); }

#endif
