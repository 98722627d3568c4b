// A batched ray caster for training pictures: primitives on a ground plane or water, under soft lights and a sky.
//
// What comes in: flat float records (struct for struct what raycaster.py packs) and a texture atlas. What goes out:
// linear light and, per pixel, which primitive was hit first. It knows nothing of clips, labels or time.
//
// One source for two compilers: nvcc makes the GPU's library, g++ a slow one with which the generator is checked on any
// machine. Random numbers are hashes of pixel and picture seed alone, so two pictures that differ by one object have
// the same noise, and their difference is that object's effect and nothing else.
#include <math.h>
#ifdef __CUDACC__
#define FN __device__ __forceinline__
#else
#define FN static inline
#endif

constexpr int PRIMITIVES = 24, LIGHTS = 3, RIPPLES = 2, MOST_VIEWS = 24;
constexpr float PI = 3.14159265f, FAR_AWAY = 1e9f, SURFACE = 1e-3f;

struct Primitive { float type, half[3], tile, tile_scale, tile_mix, colour[3], mirror, rough, ghost, pattern,
                   pattern_scale, colour2[3], shift[2]; };
struct Pose { float rotation[9], centre[3], present; };
struct Light { float direction[3], radius, colour[3]; };
struct World { float tile, tile_scale, tile_mix, colour[3], mirror, rough, pattern, pattern_scale, colour2[3],
               stain, stain_scale, stain_mix, fog, angle, water, wave_height, wave_frequency, wave_speed, fresnel_gain;
               Light lights[LIGHTS];
               float zenith[3], horizon[3], sky_tile, sky_mix, sky_scale, sky_fade, ambient, occluded; };
struct Ripple { float x, y, height, frequency, phase, decay; };
struct View { float eye[3], right[3], up[3], forward[3], tan_x, tan_y, time, seed, scene; Ripple ripples[RIPPLES]; };
enum { SPHERE, BOX, CAPSULE, CYLINDER, ELLIPSOID };

struct V { float x, y, z; };
FN V v3(float x, float y, float z) { V r; r.x = x; r.y = y; r.z = z; return r; }
FN V v3(const float *f) { return v3(f[0], f[1], f[2]); }
FN V operator+(V a, V b) { return v3(a.x + b.x, a.y + b.y, a.z + b.z); }
FN V operator-(V a, V b) { return v3(a.x - b.x, a.y - b.y, a.z - b.z); }
FN V operator*(V a, V b) { return v3(a.x * b.x, a.y * b.y, a.z * b.z); }
FN V operator*(V a, float s) { return v3(a.x * s, a.y * s, a.z * s); }
FN float dot(V a, V b) { return a.x * b.x + a.y * b.y + a.z * b.z; }
FN V cross(V a, V b) { return v3(a.y * b.z - a.z * b.y, a.z * b.x - a.x * b.z, a.x * b.y - a.y * b.x); }
FN V unit(V a) { return a * (1.f / sqrtf(dot(a, a) + 1e-12f)); }
FN V mixed(V a, V b, float t) { return a * (1 - t) + b * t; }
FN float clamped(float x, float low, float high) { return fminf(fmaxf(x, low), high); }
FN float fraction(float x) { return x - floorf(x); }
FN V to_local(const float *r, V a) { return v3(r[0] * a.x + r[3] * a.y + r[6] * a.z, r[1] * a.x + r[4] * a.y + r[7] * a.z,
                                             r[2] * a.x + r[5] * a.y + r[8] * a.z); }
FN V to_world(const float *r, V a) { return v3(r[0] * a.x + r[1] * a.y + r[2] * a.z, r[3] * a.x + r[4] * a.y + r[5] * a.z,
                                             r[6] * a.x + r[7] * a.y + r[8] * a.z); }
FN unsigned hashed(unsigned x) { x ^= x >> 16; x *= 0x7feb352dU; x ^= x >> 15; x *= 0x846ca68bU; return x ^ (x >> 16); }
FN float uniform(unsigned key) { return (hashed(key) >> 8) * (1.f / 16777216.f); }
FN void basis(V n, V &u, V &w) { u = unit(fabsf(n.z) < .9f ? v3(-n.y, n.x, 0) : v3(1, 0, 0)); u = unit(u - n * dot(u, n));
                                 w = cross(n, u); }

struct Scene { const Primitive *primitives; const Pose *poses; const World *world; const View *view;
               const unsigned char *atlas; int tile_bytes; unsigned seed; };

// ---------------------------------------------------------------------------------------------- surfaces
FN V texel(const unsigned char *level, int n, float u, float v) {
  u = fraction(u) * n; v = fraction(v) * n;
  int x = (int)u % n, y = (int)v % n, x1 = (x + 1) % n, y1 = (y + 1) % n;
  float fx = u - floorf(u), fy = v - floorf(v), out[3];
  for (int k = 0; k < 3; k++) {
    float top = level[(y * n + x) * 3 + k] * (1 - fx) + level[(y * n + x1) * 3 + k] * fx;
    float low = level[(y1 * n + x) * 3 + k] * (1 - fx) + level[(y1 * n + x1) * 3 + k] * fx;
    float code = (top * (1 - fy) + low * fy) * (1.f / 255);
    out[k] = code * code;  // the atlas is stored as the root of light
  }
  return v3(out);
}
// footprint: width of a pixel in tiles; each level of the atlas has a quarter of the former's width.
FN V tile(const Scene &s, float id, float u, float v, float footprint) {
  const unsigned char *level = s.atlas + (long)id * s.tile_bytes;
  float texels = footprint * 256;
  if (texels < 2) return texel(level, 256, u, v);
  level += 256 * 256 * 3;
  if (texels < 8) return texel(level, 64, u, v);
  level += 64 * 64 * 3;
  if (texels < 32) return texel(level, 16, u, v);
  return texel(level + 16 * 16 * 3, 4, u, v);
}
FN float pattern(int kind, float u, float v) {
  if (kind == 1) return (((int)floorf(u) + (int)floorf(v)) & 1) ? 1.f : 0.f;   // checks
  if (kind == 2) return fraction(u) < .5f ? 1.f : 0.f;                          // stripes
  if (kind == 3) return fraction(u) < .06f || fraction(v) < .06f ? 1.f : 0.f;  // paving
  return 0;
}
FN V sky(const Scene &s, V d) {
  const World &w = *s.world;
  V light = mixed(v3(w.horizon), v3(w.zenith), sqrtf(clamped(d.z, 0, 1)));
  if (w.sky_mix > 0) {
    V photo = tile(s, w.sky_tile, atan2f(d.x, d.y) * w.sky_scale, 1 - d.z * w.sky_scale * 1.2f, .004f);
    light = mixed(light, photo * (light.x + light.y + light.z) * .9f, w.sky_mix * clamped(1.2f - d.z * w.sky_fade, 0, 1));
  }
  return light;
}
// hit: 0 the ground, i + 1 a primitive.
FN V albedo(const Scene &s, int hit, V p, V n, float distance) {
  float pixel = s.view->tan_x * (2.f / 192) * distance;
  if (hit == 0) {
    const World &w = *s.world;
    float c = cosf(w.angle), k = sinf(w.angle), u = c * p.x + k * p.y, v = -k * p.x + c * p.y;
    V near = tile(s, w.tile, u * w.tile_scale, v * w.tile_scale, pixel * w.tile_scale * 1.5f);
    V a = v3(w.colour) * mixed(v3(.25f, .25f, .25f), near, w.tile_mix) * 2;
    a = a * mixed(v3(1, 1, 1), tile(s, w.stain, u * w.stain_scale, v * w.stain_scale, pixel * w.stain_scale * 1.5f) * 2,
                  w.stain_mix);
    float m = pattern((int)w.pattern, u * w.pattern_scale, v * w.pattern_scale)
              * clamped(1.5f - pixel * w.pattern_scale * 2, 0, 1);
    a = mixed(a, v3(w.colour2) * (near * .5f + v3(.25f, .25f, .25f)) * 2, m);
    return v3(fminf(a.x, 1), fminf(a.y, 1), fminf(a.z, 1));
  }
  const Primitive &q = s.primitives[hit - 1];
  const Pose &at = s.poses[hit - 1];
  V l = to_local(at.rotation, p - v3(at.centre)), m = to_local(at.rotation, n);
  float ax = fabsf(m.x), ay = fabsf(m.y), az = fabsf(m.z);
  float u = az >= ax && az >= ay ? l.x : (ax >= ay ? l.y : l.x), v = az >= ax && az >= ay ? l.y : -l.z;
  u += q.shift[0]; v += q.shift[1];
  V a = mixed(v3(q.colour), tile(s, q.tile, u * q.tile_scale, v * q.tile_scale, pixel * q.tile_scale), q.tile_mix);
  return mixed(a, v3(q.colour2), pattern((int)q.pattern, u * q.pattern_scale, v * q.pattern_scale));
}
FN V waves(const Scene &s, V p, float distance) {
  const World &w = *s.world;
  float gx = 0, gy = 0, height = w.wave_height / (1 + .03f * distance * distance);
  for (int i = 0; i < 5; i++) {
    float angle = w.angle + i * 1.3f + .37f * i * i, f = w.wave_frequency * (.6f + .55f * i), c = cosf(angle), k = sinf(angle);
    float slope = height * cosf(f * (c * p.x + k * p.y) + w.wave_speed * sqrtf(f) * s.view->time + i * 1.9f) / (1 + .4f * i);
    gx += slope * c; gy += slope * k;
  }
  for (int r = 0; r < RIPPLES; r++) {
    const Ripple &q = s.view->ripples[r];
    if (q.height <= 0) continue;
    float dx = p.x - q.x, dy = p.y - q.y, far = sqrtf(dx * dx + dy * dy) + 1e-4f;
    float slope = q.height * expf(-far * q.decay) * cosf(q.frequency * far - q.phase) / (1 + .02f * distance * distance);
    gx += slope * dx / far; gy += slope * dy / far;
  }
  return unit(v3(-gx, -gy, 1));
}

// ---------------------------------------------------------------------------------------------- intersection
FN float reach(const Primitive &p) {
  const float *h = p.half;
  switch ((int)p.type) {
    case SPHERE: return h[0];
    case BOX: return sqrtf(h[0] * h[0] + h[1] * h[1] + h[2] * h[2]);
    case CAPSULE: return h[0] + h[1];
    case CYLINDER: return sqrtf(h[0] * h[0] + h[1] * h[1]);
    default: return fmaxf(h[0], fmaxf(h[1], h[2]));
  }
}
FN bool meets_box(const float *h, V o, V d, float &t, V &n) {
  const float origin[3] = {o.x, o.y, o.z}, way[3] = {d.x, d.y, d.z};
  float enter = -FAR_AWAY, leave = FAR_AWAY;
  int axis = 0;
  for (int k = 0; k < 3; k++) {
    float inverse = 1.f / (fabsf(way[k]) < 1e-7f ? 1e-7f : way[k]);
    float a = (-h[k] - origin[k]) * inverse, b = (h[k] - origin[k]) * inverse;
    if (fminf(a, b) > enter) { enter = fminf(a, b); axis = k; }
    leave = fminf(leave, fmaxf(a, b));
  }
  float side = way[axis] > 0 ? -1.f : 1.f;
  t = enter;
  n = v3(axis == 0 ? side : 0, axis == 1 ? side : 0, axis == 2 ? side : 0);
  return enter <= leave;
}
FN bool meets_round(V inverse, V o, V d, float &t, V &n) {  // spheres and ellipsoids, by their inverse radii
  V so = o * inverse, sd = d * inverse;
  float a = dot(sd, sd), b = dot(so, sd), root = b * b - a * (dot(so, so) - 1);
  if (root < 0) return false;
  t = (-b - sqrtf(root)) / a;
  n = unit((so + sd * t) * inverse);
  return true;
}
FN bool meets_tube(bool rounded, float r, float h, V o, V d, float low, float high, float &t, V &n) {
  float a = d.x * d.x + d.y * d.y, b = o.x * d.x + o.y * d.y, root = b * b - a * (o.x * o.x + o.y * o.y - r * r);
  if (root > 0 && a > 1e-9f) {
    float side = (-b - sqrtf(root)) / a;
    if (side > low && side < high && fabsf(o.z + side * d.z) <= h) {
      t = side; n = v3((o.x + side * d.x) / r, (o.y + side * d.y) / r, 0);
      return true;
    }
  }
  bool met = false;
  t = high;
  for (int end = -1; end <= 1; end += 2) {
    if (rounded) {
      V c = o - v3(0, 0, end * h);
      float cb = dot(c, d), cap = cb * cb - (dot(c, c) - r * r), at = cap > 0 ? -cb - sqrtf(cap) : -1;
      if (cap > 0 && at > low && at < t) { t = at; n = (c + d * at) * (1 / r); met = true; }
    } else {
      float at = (end * h - o.z) / (fabsf(d.z) < 1e-7f ? 1e-7f : d.z), x = o.x + at * d.x, y = o.y + at * d.y;
      if (at > low && at < t && x * x + y * y < r * r) { t = at; n = v3(0, 0, (float)end); met = true; }
    }
  }
  return met;
}
FN bool meets(const Primitive &p, const Pose &at, V o, V d, float low, float high, float &t, V &n) {
  V away = o - v3(at.centre);
  float b = dot(away, d), r = reach(p), c = dot(away, away) - r * r;
  if (c > 0 && (b > 0 || b * b - c < 0)) return false;
  V lo = to_local(at.rotation, away), ld = to_local(at.rotation, d), m;
  bool met;
  switch ((int)p.type) {
    case BOX: met = meets_box(p.half, lo, ld, t, m); break;
    case SPHERE: met = meets_round(v3(1 / p.half[0], 1 / p.half[0], 1 / p.half[0]), lo, ld, t, m); break;
    case ELLIPSOID: met = meets_round(v3(1 / p.half[0], 1 / p.half[1], 1 / p.half[2]), lo, ld, t, m); break;
    default: met = meets_tube((int)p.type == CAPSULE, p.half[0], p.half[1], lo, ld, low, high, t, m);
  }
  if (!met || t < low || t > high || dot(m, ld) > 0) return false;
  n = to_world(at.rotation, m);
  return true;
}
// A ghost is seen by the camera alone: it casts and mirrors nothing.
FN bool blocked(const Scene &s, V o, V d) {
  float t; V n;
  for (int i = 0; i < PRIMITIVES; i++)
    if (s.poses[i].present > .5f && s.primitives[i].ghost < .5f &&
        meets(s.primitives[i], s.poses[i], o, d, SURFACE, FAR_AWAY, t, n)) return true;
  return false;
}
// -1 the sky, 0 the ground, i + 1 a primitive.
FN int nearest(const Scene &s, V o, V d, bool camera, float &t, V &n) {
  int hit = -1;
  t = FAR_AWAY;
  if (d.z < -1e-5f && o.z > 0 && -o.z / d.z < 120) { t = -o.z / d.z; n = v3(0, 0, 1); hit = 0; }
  for (int i = 0; i < PRIMITIVES; i++) {
    if (s.poses[i].present < .5f || (!camera && s.primitives[i].ghost > .5f)) continue;
    float at; V m;
    if (meets(s.primitives[i], s.poses[i], o, d, SURFACE, t, at, m)) { t = at; n = m; hit = i + 1; }
  }
  return hit;
}

// ---------------------------------------------------------------------------------------------- light
FN V lit(const Scene &s, int hit, V p, V n, float distance, int light_rays, int sky_rays, unsigned key) {
  const World &w = *s.world;
  V from = p + n * 2e-3f, light = v3(0, 0, 0), u, q;
  for (int k = 0; k < LIGHTS; k++) {
    const Light &l = w.lights[k];
    if (l.colour[0] + l.colour[1] + l.colour[2] <= 0) continue;
    V way = v3(l.direction);
    basis(way, u, q);
    int rays = k ? (light_rays + 1) / 2 : light_rays;
    float a = uniform(key + 17 * k + 1), b = uniform(key + 17 * k + 5), sum = 0;
    for (int r = 0; r < rays; r++) {
      float far = sqrtf((r + a) / rays) * l.radius, turn = 2 * PI * fraction(r * .61803399f + b);
      V d = unit(way + u * (far * cosf(turn)) + q * (far * sinf(turn)));
      float facing = dot(n, d);
      if (facing > 0 && !blocked(s, from, d)) sum += facing;
    }
    light = light + v3(l.colour) * (sum / rays);
  }
  basis(n, u, q);
  float a = uniform(key + 91), b = uniform(key + 95);
  V open = v3(0, 0, 0);
  for (int r = 0; r < sky_rays; r++) {
    float e = (r + a) / sky_rays, far = sqrtf(e), turn = 2 * PI * fraction(r * .61803399f + b);
    V d = u * (far * cosf(turn)) + q * (far * sinf(turn)) + n * sqrtf(1 - e);
    V seen = mixed(v3(w.horizon), v3(w.zenith), clamped(d.z, 0, 1)) * (d.z < 0 ? .35f : 1.f);
    open = open + (blocked(s, from, d) ? seen * w.occluded : seen);
  }
  return albedo(s, hit, p, n, distance) * (light + open * (w.ambient / sky_rays));
}
FN V pixel(const Scene &s, float x, float y, int light_rays, int sky_rays, unsigned key, signed char &first) {
  const View &c = *s.view;
  const World &w = *s.world;
  V eye = v3(c.eye), d = unit(v3(c.forward) + v3(c.right) * (x * c.tan_x) + v3(c.up) * (y * c.tan_y)), n;
  float t;
  int hit = nearest(s, eye, d, true, t, n);
  first = (signed char)hit;
  if (hit < 0) return sky(s, d);
  V p = eye + d * t, tilted = n;
  bool water = hit == 0 && w.water > .5f;
  V surface = p;
  if (water) { tilted = waves(s, p, t); surface.x += tilted.x * .35f; surface.y += tilted.y * .35f; }
  V light = lit(s, hit, surface, n, t, light_rays, sky_rays, key);
  float mirror = hit ? s.primitives[hit - 1].mirror : w.mirror, rough = hit ? s.primitives[hit - 1].rough : w.rough;
  if (mirror > .015f) {  // Schlick's approximation of Fresnel's law
    float grazing = 1 - fabsf(dot(d, tilted)), g2 = grazing * grazing;
    float share = fminf((mirror + (1 - mirror) * g2 * g2 * grazing) * (hit ? 1.f : w.fresnel_gain), .9f);
    V sum = v3(0, 0, 0);
    int rays = rough > .02f ? 3 : 1;
    for (int r = 0; r < rays; r++) {
      V shake = v3(uniform(key + 201 + 7 * r) - .5f, uniform(key + 203 + 7 * r) - .5f, uniform(key + 205 + 7 * r) - .5f);
      V m = unit(tilted + shake * (2 * rough)), back = d - m * (2 * dot(d, m));
      if (hit == 0) back.z = fmaxf(back.z, .01f);
      back = unit(back);
      float far; V other;
      V from = p + n * 2e-3f;
      int seen = nearest(s, from, back, false, far, other);
      sum = sum + (seen < 0 ? sky(s, back) : lit(s, seen, from + back * far, other, t + far, 2, 2, key + 301 + 13 * r));
    }
    light = mixed(light, sum * (1.f / rays), share);
  }
  return mixed(light, v3(w.horizon), 1 - expf(-w.fog * t));
}
FN void shoot(const Primitive *primitives, const Pose *poses, const World *world, const View *view,
              const unsigned char *atlas, int tile_bytes, int width, int height, int x, int y, int light_rays,
              int sky_rays, float *light, signed char *first) {
  Scene s = {primitives, poses, world, view, atlas, tile_bytes, (unsigned)view->seed * 7919u};
  unsigned key = hashed(s.seed + (unsigned)(y * 8191 + x) * 9781u);
  V out = pixel(s, (x + .5f) / width * 2 - 1, 1 - (y + .5f) / height * 2, light_rays, sky_rays, key, *first);
  light[0] = out.x; light[1] = out.y; light[2] = out.z;
}

// ---------------------------------------------------------------------------------------------- masked median
// pictures, taken: [views, height, width(, 3)]; to_view: 3x3 from a pixel of the reference to one of each view.
FN void median_at(const float *pictures, const float *taken, const float *to_view, int views, int width, int height,
                  int x, int y, float *middle, float *coverage, float *scatter) {
  float seen[3][MOST_VIEWS], apart[MOST_VIEWS];
  int n = 0;
  for (int j = 0; j < views; j++) {
    const float *h = to_view + 9 * j;
    float w = h[6] * x + h[7] * y + h[8], u = (h[0] * x + h[1] * y + h[2]) / w, v = (h[3] * x + h[4] * y + h[5]) / w;
    if (!(u >= 0 && v >= 0 && u <= width - 1 && v <= height - 1)) continue;
    int x0 = (int)fminf(u, width - 2.f), y0 = (int)fminf(v, height - 2.f);
    long at = ((long)j * height + y0) * width + x0;
    if (fmaxf(fmaxf(taken[at], taken[at + 1]), fmaxf(taken[at + width], taken[at + width + 1])) > .05f) continue;
    float fx = u - x0, fy = v - y0;
    const float *p = pictures + at * 3;
    for (int k = 0; k < 3; k++)
      seen[k][n] = (p[k] * (1 - fx) + p[3 + k] * fx) * (1 - fy) + (p[3 * width + k] * (1 - fx) + p[3 * width + 3 + k] * fx) * fy;
    n++;
  }
  *coverage = (float)n / views;
  *scatter = 0;
  for (int k = 0; k < 3; k++) {
    for (int i = 1; i < n; i++) {
      float value = seen[k][i];
      int j = i - 1;
      for (; j >= 0 && seen[k][j] > value; j--) seen[k][j + 1] = seen[k][j];
      seen[k][j + 1] = value;
    }
    middle[k] = n ? .5f * (seen[k][(n - 1) / 2] + seen[k][n / 2]) : 0;
  }
  for (int i = 0; i < n; i++) {
    float value = fabsf(seen[1][i] - middle[1]);
    int j = i - 1;
    for (; j >= 0 && apart[j] > value; j--) apart[j + 1] = apart[j];
    apart[j + 1] = value;
  }
  if (n) *scatter = apart[n / 2];
}

// ---------------------------------------------------------------------------------------------- entry points
#ifdef __CUDACC__
__global__ void shoot_all(const Primitive *primitives, const Pose *poses, const World *worlds, const View *views,
                          const unsigned char *atlas, int tile_bytes, int width, int height, int light_rays, int sky_rays,
                          float *light, signed char *first) {
  __shared__ Primitive own[PRIMITIVES];
  __shared__ Pose at[PRIMITIVES];
  __shared__ World world;
  __shared__ View view;
  int picture = blockIdx.z, thread = threadIdx.y * blockDim.x + threadIdx.x, threads = blockDim.x * blockDim.y;
  int scene = (int)views[picture].scene;
  auto copy = [&](void *to, const void *from, int bytes) {
    for (int i = thread; i < bytes / 4; i += threads) ((float *)to)[i] = ((const float *)from)[i];
  };
  copy(own, primitives + (long)scene * PRIMITIVES, sizeof own);
  copy(at, poses + (long)picture * PRIMITIVES, sizeof at);
  copy(&world, worlds + scene, sizeof world);
  copy(&view, views + picture, sizeof view);
  __syncthreads();
  int x = blockIdx.x * blockDim.x + threadIdx.x, y = blockIdx.y * blockDim.y + threadIdx.y;
  if (x >= width || y >= height) return;
  long out = ((long)picture * height + y) * width + x;
  shoot(own, at, &world, &view, atlas, tile_bytes, width, height, x, y, light_rays, sky_rays, light + out * 3, first + out);
}
__global__ void median_all(const float *pictures, const float *taken, const float *to_view, int views, int width, int height,
                           float *middle, float *coverage, float *scatter) {
  int clip = blockIdx.z, x = blockIdx.x * blockDim.x + threadIdx.x, y = blockIdx.y * blockDim.y + threadIdx.y;
  if (x >= width || y >= height) return;
  long out = ((long)clip * height + y) * width + x, size = (long)views * width * height;
  median_at(pictures + clip * size * 3, taken + clip * size, to_view + (long)clip * views * 9, views, width, height, x, y,
            middle + out * 3, coverage + out, scatter + out);
}
#endif
extern "C" void render(const Primitive *primitives, const Pose *poses, const World *worlds, const View *views,
                       const unsigned char *atlas, int tile_bytes, int pictures, int width, int height, int light_rays,
                       int sky_rays, float *light, signed char *first, void *stream) {
#ifdef __CUDACC__
  dim3 grid((width + 15) / 16, (height + 7) / 8, pictures), block(16, 8);
  shoot_all<<<grid, block, 0, (cudaStream_t)stream>>>(primitives, poses, worlds, views, atlas, tile_bytes, width, height,
                                                      light_rays, sky_rays, light, first);
#else
#pragma omp parallel for schedule(dynamic) collapse(2)
  for (int picture = 0; picture < pictures; picture++)
    for (int y = 0; y < height; y++)
      for (int x = 0; x < width; x++) {
        long out = ((long)picture * height + y) * width + x, scene = (long)views[picture].scene;
        shoot(primitives + scene * PRIMITIVES, poses + (long)picture * PRIMITIVES, worlds + scene, views + picture, atlas,
              tile_bytes, width, height, x, y, light_rays, sky_rays, light + out * 3, first + out);
      }
#endif
}
extern "C" void masked_median(const float *pictures, const float *taken, const float *to_view, int clips, int views, int width,
                              int height, float *middle, float *coverage, float *scatter, void *stream) {
#ifdef __CUDACC__
  dim3 grid((width + 15) / 16, (height + 7) / 8, clips), block(16, 8);
  median_all<<<grid, block, 0, (cudaStream_t)stream>>>(pictures, taken, to_view, views, width, height, middle, coverage, scatter);
#else
#pragma omp parallel for schedule(dynamic) collapse(2)
  for (int clip = 0; clip < clips; clip++)
    for (int y = 0; y < height; y++)
      for (int x = 0; x < width; x++) {
        long out = ((long)clip * height + y) * width + x, size = (long)views * width * height;
        median_at(pictures + clip * size * 3, taken + clip * size, to_view + (long)clip * views * 9, views, width, height, x, y,
                  middle + out * 3, coverage + out, scatter + out);
      }
#endif
}
extern "C" int last_error() {
#ifdef __CUDACC__
  return (int)cudaGetLastError();
#else
  return 0;
#endif
}
