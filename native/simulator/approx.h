// The .approx functions. They are deterministic on every machine and stay within the manual's error bounds. Most are
// nearly correctly rounded. Only tanh is kept as coarse as the manual allows a card to be (11 bits), so that a kernel
// shows the effect of that.
//
// Bounds of the manual (relative if nothing else is said): ex2 2 ulp + 2^-22; lg2 2^-22.6, absolute in [0.5, 2]; sin,
// cos 2^-20.5 absolute in [-π, π]; tanh 2^-11; rcp 1 ulp; rsqrt 2^-22.9; sqrt 2^-23; div 2 ulp, and 0 for |b| in
// (2^126, 2^128).
#pragma once
#include <cstdint>

namespace heed::simulator {

// .f32; with ftz, subnormal inputs and results are zeros of the same sign.
float ex2_approx(float a, bool ftz);
float lg2_approx(float a, bool ftz);
float sin_approx(float a, bool ftz);
float cos_approx(float a, bool ftz);
float tanh_approx(float a);
float rcp_approx(float a, bool ftz);
float sqrt_approx(float a, bool ftz);
float rsqrt_approx(float a, bool ftz);
float div_approx(float a, float b, bool ftz);
float div_full(float a, float b, bool ftz);

// rcp.approx.ftz.f64 and rsqrt.approx.ftz.f64: they use the upper 32 bits only, and the lower bits of the result are
// zero.
double rcp_approx_f64(double a);
double rsqrt_approx_f64(double a);

// tanh to about 2^-30, before it is made coarse.
double tanh_double(double a);

// The same for 32 lanes, with the same bits. The arrays may be identical.
void warp_ex2_approx(const float* a, float* d, bool ftz);
void warp_lg2_approx(const float* a, float* d, bool ftz);
void warp_rcp_approx(const float* a, float* d, bool ftz);
void warp_rsqrt_approx(const float* a, float* d, bool ftz);
void warp_sqrt_approx(const float* a, float* d, bool ftz);
void warp_div_approx(const float* a, const float* b, float* d, bool ftz);

}  // namespace heed::simulator
