/* An addon in C that calls the functions of heed.h for test/c-interface.test.ts: each function of JavaScript calls one of
 * them, with tensors as numbers. A status that is not HEED_OK is thrown as an error with its code. */
#define NAPI_VERSION 8
#include <heed.h>
#include <node_api.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MOST 256

typedef struct {
  heed_library heed;
  heed_tensor *tensors[MOST];
  int count;
  int announce; /* prints what happens at the end of the environment */
} probe;

static int deleted = 0; /* deleters called so far, in the whole process */

static napi_value undefined(napi_env env) {
  napi_value value;
  napi_get_undefined(env, &value);
  return value;
}
static napi_value number(napi_env env, double value) {
  napi_value made;
  napi_create_double(env, value, &made);
  return made;
}
static napi_value named(napi_env env, napi_value object, const char *name) {
  napi_value value;
  napi_get_named_property(env, object, name, &value);
  return value;
}
static double to_number(napi_env env, napi_value value) {
  double made = 0;
  napi_get_value_double(env, value, &made);
  return made;
}
static int is_missing(napi_env env, napi_value value) {
  napi_valuetype type;
  napi_typeof(env, value, &type);
  return type == napi_undefined || type == napi_null;
}
static double option(napi_env env, napi_value object, const char *name, double otherwise) {
  const napi_value value = named(env, object, name);
  return is_missing(env, value) ? otherwise : to_number(env, value);
}
static int32_t integers(napi_env env, napi_value array, int64_t *into) {
  uint32_t length = 0, i;
  napi_get_array_length(env, array, &length);
  for (i = 0; i < length && i < 16; i++) {
    napi_value value;
    napi_get_element(env, array, i, &value);
    into[i] = (int64_t)to_number(env, value);
  }
  return (int32_t)length;
}
static uint8_t *bytes_of(napi_env env, napi_value array, size_t *length) {
  void *data = NULL;
  napi_get_typedarray_info(env, array, NULL, length, &data, NULL, NULL);
  return (uint8_t *)data;
}

static probe *state_of(napi_env env) {
  void *data = NULL;
  napi_get_instance_data(env, &data);
  return (probe *)data;
}
static const heed_interface *functions_of(napi_env env) { return state_of(env)->heed.functions; }
static heed_context *context_of(napi_env env) { return state_of(env)->heed.context; }

/* Throws the status as an error, and returns false, unless it is HEED_OK. */
static int check(napi_env env, heed_status status) {
  if (status == HEED_OK) return 1;
  napi_throw_error(env, functions_of(env)->status_name(status), functions_of(env)->last_error());
  return 0;
}
static napi_value held(napi_env env, heed_tensor *tensor) {
  probe *state = state_of(env);
  if (state->count == MOST) abort();
  state->tensors[state->count] = tensor;
  return number(env, state->count++);
}
static heed_tensor *tensor_of(napi_env env, napi_value value) {
  const int id = is_missing(env, value) ? -1 : (int)to_number(env, value);
  return id < 0 || id >= MOST ? NULL : state_of(env)->tensors[id];
}

#define ARGUMENTS(most)        \
  napi_value arguments[most];  \
  size_t count = most;         \
  napi_get_cb_info(env, info, &count, arguments, NULL, NULL)

static napi_value open_heed(napi_env env, napi_callback_info info) {
  void *data = NULL;
  heed_library opened;
  ARGUMENTS(1);
  napi_get_value_external(env, arguments[0], &data);
  if (heed_open(data, &opened) != HEED_OK) {
    napi_throw_error(env, "ERR_ARGUMENT", "not heed's interface");
    return NULL;
  }
  heed_close(&state_of(env)->heed);
  state_of(env)->heed = opened;
  return undefined(env);
}

/* forge(external, major, bytes more): opens an interface that differs from heed's, and says whether it has `call`. */
static napi_value forge(napi_env env, napi_callback_info info) {
  void *data = NULL;
  heed_interface functions;
  heed_handover handover;
  heed_library library;
  heed_status status;
  ARGUMENTS(4);
  napi_get_value_external(env, arguments[0], &data);
  handover = *(heed_handover *)data;
  functions = *handover.functions;
  functions.major = (uint32_t)to_number(env, arguments[1]);
  functions.size = (size_t)((double)functions.size + to_number(env, arguments[2]));
  handover.functions = &functions;
  if (to_number(env, arguments[3]) != 0) handover.magic++;
  status = heed_open(&handover, &library);
  if (status != HEED_OK) return number(env, -status);
  status = HEED_HAS(&library, call) ? 1 : 0;
  heed_close(&library);
  return number(env, status);
}

static napi_value devices(napi_env env, napi_callback_info info) {
  int32_t many = 0, i;
  napi_value list;
  (void)info;
  if (!check(env, functions_of(env)->device_count(context_of(env), &many))) return NULL;
  napi_create_array(env, &list);
  for (i = 0; i < many; i++) {
    char text[256];
    napi_value described;
    heed_device_info device;
    memset(&device, 0, sizeof device);
    device.size = sizeof device;
    if (!check(env, functions_of(env)->device_info(context_of(env), i, &device))) return NULL;
    snprintf(text, sizeof text, "%d:%d available=%d %s", device.kind, device.ordinal, device.available,
             device.description);
    napi_create_string_utf8(env, text, NAPI_AUTO_LENGTH, &described);
    napi_set_element(env, list, (uint32_t)i, described);
  }
  return list;
}

/* device_info with a struct of another size: an older, smaller one gets as much as it has room for. */
static napi_value device_kind(napi_env env, napi_callback_info info) {
  struct {
    size_t size;
    int32_t kind;
    char rest[sizeof(heed_device_info)];
  } old;
  size_t i;
  ARGUMENTS(2);
  memset(&old, 42, sizeof old);
  old.size = (size_t)to_number(env, arguments[1]);
  if (!check(env, functions_of(env)->device_info(context_of(env), (int32_t)to_number(env, arguments[0]),
                                                  (heed_device_info *)&old)))
    return NULL;
  for (i = old.size; i < sizeof old; i++)
    if (((const char *)&old)[i] != 42) abort();
  return number(env, old.kind);
}

static void free_memory(void *data) {
  deleted++;
  free(data);
}

/* memory({device, dtype, shape, strides?, bytes, readOnly?, beyond?, size?}): a tensor over a block of exactly these bytes */
static napi_value from_memory(napi_env env, napi_callback_info info) {
  heed_memory memory;
  heed_tensor *tensor = NULL;
  int64_t shape[16], strides[16];
  size_t length = 0;
  char *block;
  size_t beyond;
  const uint8_t *bytes;
  ARGUMENTS(1);
  bytes = bytes_of(env, named(env, arguments[0], "bytes"), &length);
  beyond = (size_t)option(env, arguments[0], "beyond", 0);
  block = (char *)malloc(length + beyond + !length);
  if (length) memcpy(block + beyond, bytes, length);
  memset(&memory, 0, sizeof memory);
  memory.size = (size_t)option(env, arguments[0], "size", sizeof memory);
  memory.device = (int32_t)option(env, arguments[0], "device", 0);
  memory.dtype = (int32_t)option(env, arguments[0], "dtype", HEED_F32);
  memory.rank = integers(env, named(env, arguments[0], "shape"), shape);
  memory.shape = shape;
  memory.read_only = option(env, arguments[0], "readOnly", 0) != 0;
  if (!is_missing(env, named(env, arguments[0], "strides"))) {
    integers(env, named(env, arguments[0], "strides"), strides);
    memory.strides = strides;
  }
  memory.data = option(env, arguments[0], "null", 0) != 0 ? NULL : block + beyond;
  memory.deleter = free_memory;
  memory.deleter_data = block;
  if (!check(env, functions_of(env)->tensor_from_memory(context_of(env), &memory, &tensor))) {
    free(block);
    return NULL;
  }
  return held(env, tensor);
}

static napi_value deletions(napi_env env, napi_callback_info info) {
  (void)info;
  return number(env, deleted);
}

static napi_value empty(napi_env env, napi_callback_info info) {
  heed_tensor *tensor = NULL;
  int64_t shape[16];
  int32_t rank;
  ARGUMENTS(3);
  rank = integers(env, arguments[2], shape);
  if (!check(env, functions_of(env)->tensor_empty(context_of(env), (int32_t)to_number(env, arguments[0]),
                                                   (int32_t)to_number(env, arguments[1]), rank, shape, &tensor)))
    return NULL;
  return held(env, tensor);
}

/* view(id, shape, strides | null, offset) */
static napi_value view(napi_env env, napi_callback_info info) {
  heed_tensor *made = NULL;
  int64_t shape[16], strides[16];
  int32_t rank;
  int given;
  ARGUMENTS(4);
  rank = integers(env, arguments[1], shape);
  given = !is_missing(env, arguments[2]);
  if (given) integers(env, arguments[2], strides);
  if (!check(env, functions_of(env)->tensor_view(tensor_of(env, arguments[0]), rank, shape, given ? strides : NULL,
                                                 (int64_t)to_number(env, arguments[3]), &made)))
    return NULL;
  return held(env, made);
}

static napi_value release(napi_env env, napi_callback_info info) {
  ARGUMENTS(1);
  functions_of(env)->tensor_release(tensor_of(env, arguments[0]));
  state_of(env)->tensors[(int)to_number(env, arguments[0])] = NULL;
  return undefined(env);
}

static napi_value describe(napi_env env, napi_callback_info info) {
  heed_tensor_info tensor;
  char text[256];
  int used, d;
  napi_value described;
  ARGUMENTS(1);
  memset(&tensor, 0, sizeof tensor);
  tensor.size = sizeof tensor;
  if (!check(env, functions_of(env)->tensor_info(tensor_of(env, arguments[0]), &tensor))) return NULL;
  used = snprintf(text, sizeof text, "%d %d%s [", tensor.device, tensor.dtype, tensor.read_only ? " read-only" : "");
  for (d = 0; d < tensor.rank; d++)
    used += snprintf(text + used, sizeof text - (size_t)used, "%s%d/%d", d ? ", " : "", (int)tensor.shape[d],
                     (int)tensor.strides[d]);
  snprintf(text + used, sizeof text - (size_t)used, "] %d", (int)tensor.bytes);
  napi_create_string_utf8(env, text, NAPI_AUTO_LENGTH, &described);
  return described;
}

static napi_value write_bytes(napi_env env, napi_callback_info info) {
  size_t length = 0;
  const uint8_t *bytes;
  ARGUMENTS(2);
  bytes = bytes_of(env, arguments[1], &length);
  check(env, functions_of(env)->tensor_write(tensor_of(env, arguments[0]), bytes, length));
  return undefined(env);
}

static void note_status(void *data, heed_status status, const char *message) {
  (void)message;
  *(int *)data = status;
}

/* read(id, bytes): an ArrayBuffer; blocks */
static napi_value read_bytes(napi_env env, napi_callback_info info) {
  void *data = NULL;
  napi_value buffer;
  int status = -1;
  const size_t none = 0;
  size_t length;
  ARGUMENTS(2);
  (void)none;
  length = (size_t)to_number(env, arguments[1]);
  napi_create_arraybuffer(env, length, &data, &buffer);
  if (!check(env, functions_of(env)->tensor_read(tensor_of(env, arguments[0]), data, length, note_status, &status)))
    return NULL;
  if (!check(env, functions_of(env)->tensor_wait(tensor_of(env, arguments[0])))) return NULL;
  if (status != HEED_OK) abort(); /* the callback comes first */
  return buffer;
}

/* peek(id): the bytes of a contiguous tensor on the CPU where they are, without waiting */
static napi_value peek(napi_env env, napi_callback_info info) {
  heed_tensor_info tensor;
  void *data = NULL;
  napi_value buffer;
  ARGUMENTS(1);
  memset(&tensor, 0, sizeof tensor);
  tensor.size = sizeof tensor;
  if (!check(env, functions_of(env)->tensor_info(tensor_of(env, arguments[0]), &tensor))) return NULL;
  napi_create_arraybuffer(env, (size_t)tensor.bytes, &data, &buffer);
  memcpy(data, tensor.data, (size_t)tensor.bytes);
  return buffer;
}

static napi_value wait_tensor(napi_env env, napi_callback_info info) {
  ARGUMENTS(1);
  check(env, functions_of(env)->tensor_wait(tensor_of(env, arguments[0])));
  return undefined(env);
}
static napi_value wait_device(napi_env env, napi_callback_info info) {
  ARGUMENTS(1);
  check(env, functions_of(env)->device_wait(context_of(env), (int32_t)to_number(env, arguments[0])));
  return undefined(env);
}

typedef struct {
  napi_env env;
  napi_deferred deferred;
} promise;

static void settle(void *data, heed_status status, const char *message) {
  promise *made = (promise *)data;
  napi_value error, text, code;
  if (status == HEED_OK) {
    napi_resolve_deferred(made->env, made->deferred, undefined(made->env));
  } else {
    napi_create_string_utf8(made->env, message, NAPI_AUTO_LENGTH, &text);
    napi_create_string_utf8(made->env, functions_of(made->env)->status_name(status), NAPI_AUTO_LENGTH, &code);
    napi_create_error(made->env, code, text, &error);
    napi_reject_deferred(made->env, made->deferred, error);
  }
  free(made);
}

/* after(id): a promise that tensor_after settles; afterDevice(device): one of device_after */
static napi_value after_tensor(napi_env env, napi_callback_info info) {
  promise *made = (promise *)malloc(sizeof *made);
  napi_value result = NULL;
  ARGUMENTS(1);
  made->env = env;
  napi_create_promise(env, &made->deferred, &result);
  if (!check(env, functions_of(env)->tensor_after(tensor_of(env, arguments[0]), settle, made))) free(made);
  return result;
}
static napi_value after_device(napi_env env, napi_callback_info info) {
  promise *made = (promise *)malloc(sizeof *made);
  napi_value result = NULL;
  ARGUMENTS(1);
  made->env = env;
  napi_create_promise(env, &made->deferred, &result);
  if (!check(env, functions_of(env)->device_after(context_of(env), (int32_t)to_number(env, arguments[0]), settle, made)))
    free(made);
  return result;
}

static void print_status(void *data, heed_status status, const char *message) {
  printf("%s: %d %s\n", (const char *)data, status, message);
  fflush(stdout);
}
/* announce(device): prints with what status a callback is called, and what happens at the end of the environment */
static napi_value announce(napi_env env, napi_callback_info info) {
  ARGUMENTS(1);
  state_of(env)->announce = 1;
  check(env, functions_of(env)->device_after(context_of(env), (int32_t)to_number(env, arguments[0]), print_status,
                                              "callback"));
  return undefined(env);
}

static napi_value stream(napi_env env, napi_callback_info info) {
  void *found = NULL;
  ARGUMENTS(1);
  if (!check(env, functions_of(env)->device_stream(context_of(env), (int32_t)to_number(env, arguments[0]), &found)))
    return NULL;
  return number(env, found != NULL);
}

static napi_value transfer(napi_env env, napi_callback_info info) {
  ARGUMENTS(2);
  check(env, functions_of(env)->tensor_transfer(tensor_of(env, arguments[0]), tensor_of(env, arguments[1])));
  return undefined(env);
}

static napi_value to_value(napi_env env, napi_callback_info info) {
  void *value = NULL;
  ARGUMENTS(1);
  return check(env, functions_of(env)->tensor_to_value(tensor_of(env, arguments[0]), &value)) ? (napi_value)value : NULL;
}
static napi_value from_value(napi_env env, napi_callback_info info) {
  heed_tensor *tensor = NULL;
  ARGUMENTS(1);
  return check(env, functions_of(env)->tensor_from_value(context_of(env), arguments[0], &tensor)) ? held(env, tensor)
                                                                                                  : NULL;
}

/* ---- DLPack ------------------------------------------------------------------------------------------------------- */
static napi_value to_dlpack(napi_env env, napi_callback_info info) {
  void *managed = NULL, *value = NULL;
  int32_t kind;
  ARGUMENTS(2);
  kind = (int32_t)to_number(env, arguments[1]);
  if (!check(env, functions_of(env)->tensor_to_dlpack(tensor_of(env, arguments[0]), kind, &managed)) ||
      !check(env, functions_of(env)->dlpack_to_value(context_of(env), kind, managed, &value)))
    return NULL;
  return (napi_value)value;
}
static napi_value from_dlpack(napi_env env, napi_callback_info info) {
  void *managed = NULL;
  int32_t kind = -1;
  heed_tensor *tensor = NULL;
  ARGUMENTS(1);
  if (!check(env, functions_of(env)->dlpack_from_value(context_of(env), arguments[0], &kind, &managed)) ||
      !check(env, functions_of(env)->tensor_from_dlpack(context_of(env), kind, managed, &tensor)))
    return NULL;
  return held(env, tensor);
}

static void delete_managed(int32_t kind, void *managed) {
  if (kind == HEED_DL_MANAGED)
    ((heed_dl_managed *)managed)->deleter((heed_dl_managed *)managed);
  else
    ((heed_dl_managed_versioned *)managed)->deleter((heed_dl_managed_versioned *)managed);
}

/* Another library's DLPack tensor over the memory of one that it has taken. */
typedef struct {
  int32_t inner_kind;
  void *inner;
  int64_t shape[16], strides[16];
  heed_dl_managed plain;
  heed_dl_managed_versioned versioned;
} relay;

static void free_relay(relay *made) {
  deleted++;
  delete_managed(made->inner_kind, made->inner);
  free(made);
}
static void free_plain(heed_dl_managed *self) { free_relay((relay *)self->manager_ctx); }
static void free_versioned(heed_dl_managed_versioned *self) { free_relay((relay *)self->manager_ctx); }

/* relay(external, {kind, major, flags, code, bits, lanes, deviceType, deviceId, ndim, shape, strides, offset}): such a
 * tensor, with some of its members changed */
static napi_value relay_dlpack(napi_env env, napi_callback_info info) {
  relay *made = (relay *)calloc(1, sizeof *made);
  heed_dl_tensor tensor;
  void *value = NULL;
  napi_value options;
  int32_t kind, d;
  ARGUMENTS(2);
  options = arguments[1];
  if (!check(env, functions_of(env)->dlpack_from_value(context_of(env), arguments[0], &made->inner_kind, &made->inner))) {
    free(made);
    return NULL;
  }
  tensor = made->inner_kind == HEED_DL_MANAGED ? ((heed_dl_managed *)made->inner)->tensor
                                               : ((heed_dl_managed_versioned *)made->inner)->tensor;
  for (d = 0; d < tensor.ndim; d++) {
    made->shape[d] = tensor.shape[d];
    made->strides[d] = tensor.strides[d];
  }
  if (!is_missing(env, named(env, options, "shape"))) tensor.ndim = integers(env, named(env, options, "shape"), made->shape);
  if (!is_missing(env, named(env, options, "strides"))) integers(env, named(env, options, "strides"), made->strides);
  tensor.ndim = (int32_t)option(env, options, "ndim", tensor.ndim);
  tensor.shape = made->shape;
  tensor.strides = option(env, options, "compact", 0) != 0 ? NULL : made->strides;
  tensor.byte_offset = (uint64_t)option(env, options, "offset", 0);
  tensor.dtype.code = (uint8_t)option(env, options, "code", tensor.dtype.code);
  tensor.dtype.bits = (uint8_t)option(env, options, "bits", tensor.dtype.bits);
  tensor.dtype.lanes = (uint16_t)option(env, options, "lanes", tensor.dtype.lanes);
  tensor.device.device_type = (int32_t)option(env, options, "deviceType", tensor.device.device_type);
  tensor.device.device_id = (int32_t)option(env, options, "deviceId", tensor.device.device_id);
  kind = (int32_t)option(env, options, "kind", HEED_DL_MANAGED_VERSIONED);
  made->plain.tensor = tensor;
  made->plain.manager_ctx = made;
  made->plain.deleter = free_plain;
  made->versioned.version.major = (uint32_t)option(env, options, "major", 1);
  made->versioned.version.minor = 1;
  made->versioned.manager_ctx = made;
  made->versioned.deleter = free_versioned;
  made->versioned.flags = option(env, options, "readOnly", 0) != 0 ? HEED_DL_READ_ONLY : 0;
  made->versioned.tensor = tensor;
  if (!check(env, functions_of(env)->dlpack_to_value(
                      context_of(env), kind, kind == HEED_DL_MANAGED ? (void *)&made->plain : (void *)&made->versioned,
                      &value)))
    return NULL;
  return (napi_value)value;
}

typedef struct {
  int32_t kind;
  void *managed;
} taken;
static void *delete_there(void *data) {
  taken *from = (taken *)data;
  delete_managed(from->kind, from->managed);
  return NULL;
}
/* dropElsewhere(external): calls the deleter on another thread */
static napi_value drop_elsewhere(napi_env env, napi_callback_info info) {
  taken from;
  pthread_t thread;
  ARGUMENTS(1);
  if (!check(env, functions_of(env)->dlpack_from_value(context_of(env), arguments[0], &from.kind, &from.managed)))
    return NULL;
  pthread_create(&thread, NULL, delete_there, &from);
  pthread_join(thread, NULL);
  return undefined(env);
}

typedef struct {
  heed_library heed;
  heed_status status;
  char message[256];
} elsewhere;
static void *call_there(void *data) {
  elsewhere *made = (elsewhere *)data;
  heed_tensor *tensor = NULL;
  const int64_t shape[1] = {1};
  made->status = made->heed.functions->tensor_empty(made->heed.context, 0, HEED_F32, 1, shape, &tensor);
  snprintf(made->message, sizeof made->message, "%s", made->heed.functions->last_error());
  return NULL;
}
/* callElsewhere(): the message of a call on another thread */
static napi_value call_elsewhere(napi_env env, napi_callback_info info) {
  elsewhere made;
  pthread_t thread;
  napi_value text;
  (void)info;
  made.heed = state_of(env)->heed;
  pthread_create(&thread, NULL, call_there, &made);
  pthread_join(thread, NULL);
  if (made.status != HEED_ERROR_ARGUMENT) abort();
  napi_create_string_utf8(env, made.message, NAPI_AUTO_LENGTH, &text);
  return text;
}

/* ---- operations --------------------------------------------------------------------------------------------------- */
/* gemm(out, a, b, bias, accumulate) */
static napi_value gemm(napi_env env, napi_callback_info info) {
  heed_gemm_args args;
  ARGUMENTS(5);
  memset(&args, 0, sizeof args);
  args.out = tensor_of(env, arguments[0]);
  args.a = tensor_of(env, arguments[1]);
  args.b = tensor_of(env, arguments[2]);
  args.bias = tensor_of(env, arguments[3]);
  args.accumulate = to_number(env, arguments[4]) != 0;
  check(env, heed_gemm(&state_of(env)->heed, &args));
  return undefined(env);
}
/* attend(out, q, k, v, scale): causal */
static napi_value attend(napi_env env, napi_callback_info info) {
  ARGUMENTS(5);
  check(env, heed_attention_forward(&state_of(env)->heed,
                                    &(heed_attention_forward_args){.out = tensor_of(env, arguments[0]),
                                                                   .q = tensor_of(env, arguments[1]),
                                                                   .k = tensor_of(env, arguments[2]),
                                                                   .v = tensor_of(env, arguments[3]),
                                                                   .causal = 1,
                                                                   .scale = (float)to_number(env, arguments[4])}));
  return undefined(env);
}
/* globalNorm(out, [ids]) */
static napi_value global_norm(napi_env env, napi_callback_info info) {
  heed_tensor *grads[16];
  heed_global_norm_args args;
  int64_t ids[16];
  int i;
  ARGUMENTS(2);
  args.norm = tensor_of(env, arguments[0]);
  args.grads.count = integers(env, arguments[1], ids);
  args.grads.tensors = grads;
  for (i = 0; i < args.grads.count; i++) grads[i] = ids[i] < 0 ? NULL : state_of(env)->tensors[ids[i]];
  check(env, heed_global_norm(&state_of(env)->heed, &args));
  return undefined(env);
}
/* call(name, types, values): `types` are those of the arguments; tensors are ids, and -1 is none */
static napi_value call(napi_env env, napi_callback_info info) {
  char name[64] = "";
  int64_t types[32];
  heed_argument given[32];
  int32_t many, i;
  ARGUMENTS(3);
  napi_get_value_string_utf8(env, arguments[0], name, sizeof name, NULL);
  {
    uint32_t length = 0;
    napi_get_array_length(env, arguments[1], &length);
    many = (int32_t)length;
  }
  for (i = 0; i < many && i < 32; i++) {
    napi_value value;
    double as_number;
    napi_get_element(env, arguments[1], (uint32_t)i, &value);
    types[i] = (int64_t)to_number(env, value);
    napi_get_element(env, arguments[2], (uint32_t)i, &value);
    as_number = to_number(env, value);
    switch (types[i]) {
      case HEED_ARGUMENT_TENSOR:
        given[i] = heed_tensor_argument(as_number < 0 ? NULL : state_of(env)->tensors[(int)as_number]);
        break;
      case HEED_ARGUMENT_NUMBER:
        given[i] = heed_number_argument(as_number);
        break;
      case HEED_ARGUMENT_BOOLEAN:
        given[i] = heed_boolean_argument((int32_t)as_number);
        break;
      default:
        given[i] = heed_integer_argument((int64_t)as_number);
        given[i].type = (int32_t)types[i];
    }
  }
  check(env, functions_of(env)->call(context_of(env), name, many ? given : NULL, many));
  return undefined(env);
}

/* Called late, when heed's environment has ended, if heed was loaded after this addon. */
static void finalize(napi_env env, void *data, void *hint) {
  probe *state = (probe *)data;
  heed_tensor *made = NULL;
  const int64_t shape[1] = {1};
  int i;
  (void)env;
  (void)hint;
  if (state->heed.functions) {
    const heed_status status = state->heed.functions->tensor_empty(state->heed.context, 0, HEED_F32, 1, shape, &made);
    if (state->announce) printf("late: %s\n", state->heed.functions->status_name(status));
    if (made) state->heed.functions->tensor_release(made);
    for (i = 0; i < state->count; i++) state->heed.functions->tensor_release(state->tensors[i]);
    heed_close(&state->heed);
  }
  if (state->announce) fflush(stdout);
  free(state);
}

static napi_value init(napi_env env, napi_value exports) {
  static const struct {
    const char *name;
    napi_callback function;
  } all[] = {{"open", open_heed},
             {"forge", forge},
             {"devices", devices},
             {"deviceKind", device_kind},
             {"memory", from_memory},
             {"deletions", deletions},
             {"empty", empty},
             {"view", view},
             {"release", release},
             {"describe", describe},
             {"write", write_bytes},
             {"read", read_bytes},
             {"peek", peek},
             {"wait", wait_tensor},
             {"waitDevice", wait_device},
             {"after", after_tensor},
             {"afterDevice", after_device},
             {"announce", announce},
             {"stream", stream},
             {"transfer", transfer},
             {"toValue", to_value},
             {"fromValue", from_value},
             {"toDlpack", to_dlpack},
             {"fromDlpack", from_dlpack},
             {"relay", relay_dlpack},
             {"dropElsewhere", drop_elsewhere},
             {"callElsewhere", call_elsewhere},
             {"gemm", gemm},
             {"attend", attend},
             {"globalNorm", global_norm},
             {"call", call}};
  size_t i;
  napi_set_instance_data(env, calloc(1, sizeof(probe)), finalize, NULL);
  for (i = 0; i < sizeof all / sizeof *all; i++) {
    napi_value function;
    napi_create_function(env, all[i].name, NAPI_AUTO_LENGTH, all[i].function, NULL, &function);
    napi_set_named_property(env, exports, all[i].name, function);
  }
  return exports;
}

NAPI_MODULE(probe, init)
