/* heed for native libraries: the C interface to heed's devices, tensors and operations.
 *
 * Nothing is linked. JavaScript hands the interface over as an External, which it gets from `nativeInterface()` of heed,
 * and heed_open() takes it from there:
 *
 *     void *data = NULL;
 *     heed_library library;
 *     napi_get_value_external(env, argument, &data);
 *     if (heed_open(data, &library) != HEED_OK) ...
 *
 * Rules for all functions:
 * - A heed_context belongs to one Node.js environment (the main thread or a worker). Call its functions on the thread of
 *   this environment only, with an open handle scope where a napi_value is passed.
 * - A function returns HEED_OK or the code of an error; last_error() then returns its message. Nothing has been made or
 *   changed in this case.
 * - Operations are enqueued. They run in order, one queue for each device, and the call returns before they have run.
 * - When the environment has ended, its queues have stopped, and functions return HEED_ERROR_DISPOSED. Handles may still
 *   be released then, in any order.
 *
 * The layouts of DLPack's structs follow its specification, https://dmlc.github.io/dlpack/latest/c_api.html. A pointer
 * to a struct of <dlpack/dlpack.h> may be cast to the one of the same layout here.
 *
 * heed_operations.h, which is included at the end, has a function for every operation. It is generated. Define
 * HEED_NO_OPERATIONS before including this file to leave it out. */
#ifndef HEED_H
#define HEED_H
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- versions -----------------------------------------------------------------------------------------------------
 * Functions are only added to the end of heed_interface, and its `minor` version and its `size` then grow. Code that was
 * compiled with an older header works with a newer heed. Code that may meet an older heed asks HEED_HAS before it uses a
 * function that has been added since 1.0. Another `major` version is not compatible. */
#define HEED_MAJOR 1
#define HEED_MINOR 0
/* The first eight bytes of what the External points to, "heed.api" on a little-endian machine. */
#define HEED_MAGIC UINT64_C(0x6970612e64656568)

/* ---- statuses and errors ------------------------------------------------------------------------------------------ */
typedef int32_t heed_status;
enum {
  HEED_OK = 0,
  HEED_ERROR_SHAPE = 1,    /* a shape does not fit the operation */
  HEED_ERROR_DTYPE = 2,    /* an element type does not fit the operation */
  HEED_ERROR_DEVICE = 3,   /* tensors are on different devices, or a device is not available */
  HEED_ERROR_DISPOSED = 4, /* a tensor was used after it was disposed, or its environment has ended */
  HEED_ERROR_RANGE = 5,    /* a number is outside of its range */
  HEED_ERROR_OOM = 6,      /* there is no memory left */
  HEED_ERROR_ARGUMENT = 7, /* an argument has the wrong type or form */
  HEED_ERROR_CUDA = 8,     /* the CUDA driver or device has failed */
  HEED_ERROR_INTERNAL = 9  /* heed itself has a defect */
};

/* ---- handles ------------------------------------------------------------------------------------------------------
 * heed_context: the devices, queues and tensors of one Node.js environment. heed_open() gives you a share of it, which
 * context_release() gives back.
 * heed_tensor: a view of memory and a share of that memory. Whoever gets a tensor from a function owns it and has to
 * call tensor_release(), once. The memory lives as long as any tensor, JavaScript or the queue uses it. */
typedef struct heed_context heed_context;
typedef struct heed_tensor heed_tensor;

#define HEED_MAX_RANK 8

/* Kinds of devices, with DLPack's numbers. */
enum { HEED_CPU = 1, HEED_CUDA = 2 };

/* A device. Its index is 0 for the CPU and 1 + n for the CUDA device n. Set `size` to sizeof(heed_device_info) before
 * the call. */
typedef struct heed_device_info {
  size_t size;
  int32_t kind;         /* HEED_CPU or HEED_CUDA */
  int32_t ordinal;      /* n of the CUDA device n; 0 for the CPU */
  int32_t available;    /* 1 if heed can use it, otherwise 0 */
  char description[196]; /* its name, or the reason why it is not available; ends with a null character */
  uint64_t memory;      /* bytes of the CUDA device's memory; 0 for the CPU */
} heed_device_info;

/* A tensor's description. Set `size` to sizeof(heed_tensor_info) before the call. */
typedef struct heed_tensor_info {
  size_t size;
  int32_t device;    /* index of its device */
  int32_t dtype;     /* HEED_F32, HEED_BF16, ... of heed_operations.h */
  int32_t rank;
  int32_t read_only; /* 1 if operations must not write to it */
  int64_t shape[HEED_MAX_RANK];
  int64_t strides[HEED_MAX_RANK]; /* in elements */
  void *data;        /* its first element, in the memory of its device; the queue may not have written it yet */
  uint64_t bytes;    /* bytes of a contiguous tensor of this shape */
} heed_tensor_info;

/* Memory that is yours and that a tensor shall use without a copy. Set `size` to sizeof(heed_memory), and what you do not
 * need to 0. */
typedef struct heed_memory {
  size_t size;
  int32_t device;         /* index of the device that the memory belongs to */
  int32_t dtype;
  int32_t rank;
  int32_t read_only;      /* 1: operations that would write to it return HEED_ERROR_ARGUMENT */
  const int64_t *shape;   /* `rank` sizes */
  const int64_t *strides; /* `rank` strides in elements, of at least 0; NULL for row-major order */
  void *data;             /* the first element, aligned to the size of an element */
  void (*deleter)(void *deleter_data); /* see tensor_from_memory; NULL if nothing has to be done */
  void *deleter_data;
} heed_memory;

/* Called once, on the environment's thread. `status` is HEED_OK, or the code of the failure that `message` describes. */
typedef void (*heed_callback)(void *data, heed_status status, const char *message);

/* ---- DLPack ------------------------------------------------------------------------------------------------------- */
typedef struct heed_dl_version {
  uint32_t major, minor;
} heed_dl_version;

typedef struct heed_dl_device {
  int32_t device_type; /* 1: CPU, 2: CUDA, 3: pinned memory of the host, 13: CUDA's managed memory */
  int32_t device_id;
} heed_dl_device;

typedef struct heed_dl_dtype {
  uint8_t code; /* 0: signed integer, 1: unsigned integer, 2: IEEE float, 4: bfloat, 6: boolean */
  uint8_t bits;
  uint16_t lanes;
} heed_dl_dtype;

typedef struct heed_dl_tensor {
  void *data;
  heed_dl_device device;
  int32_t ndim;
  heed_dl_dtype dtype;
  int64_t *shape;
  int64_t *strides; /* in elements; NULL for row-major order */
  uint64_t byte_offset;
} heed_dl_tensor;

/* DLManagedTensor */
typedef struct heed_dl_managed {
  heed_dl_tensor tensor;
  void *manager_ctx;
  void (*deleter)(struct heed_dl_managed *self);
} heed_dl_managed;

/* DLManagedTensorVersioned */
typedef struct heed_dl_managed_versioned {
  heed_dl_version version;
  void *manager_ctx;
  void (*deleter)(struct heed_dl_managed_versioned *self);
  uint64_t flags;
  heed_dl_tensor tensor;
} heed_dl_managed_versioned;

#define HEED_DL_READ_ONLY (UINT64_C(1) << 0)
#define HEED_DL_IS_COPIED (UINT64_C(1) << 1)

/* Which of the two structs a pointer refers to. */
enum { HEED_DL_MANAGED = 0, HEED_DL_MANAGED_VERSIONED = 1 };

/* ---- arguments of operations -------------------------------------------------------------------------------------- */
enum {
  HEED_ARGUMENT_TENSOR = 0,  /* may be NULL where the operation allows it */
  HEED_ARGUMENT_LIST = 1,    /* `count` tensors */
  HEED_ARGUMENT_INTEGER = 2,
  HEED_ARGUMENT_NUMBER = 3,
  HEED_ARGUMENT_BOOLEAN = 4  /* an integer: 0 or 1 */
};

typedef struct heed_argument {
  int32_t type;
  int32_t count;
  union {
    heed_tensor *tensor;
    heed_tensor *const *list;
    int64_t integer;
    double number;
  } value;
} heed_argument;

/* Tensors of an operation that takes lists. */
typedef struct heed_list {
  heed_tensor *const *tensors;
  int32_t count;
} heed_list;

/* ---- the interface ------------------------------------------------------------------------------------------------ */
typedef struct heed_interface {
  uint32_t major, minor;
  size_t size; /* bytes of this struct in the heed that runs */

  /* Take and give back a share of a context. The last share that is given back frees it. */
  void (*context_retain)(heed_context *context);
  void (*context_release)(heed_context *context);
  /* Returns the message of the last function that failed on this thread. It is valid until the next call that fails. */
  const char *(*last_error)(void);
  /* Returns "ERR_SHAPE" for HEED_ERROR_SHAPE, and so on: the `code` of JavaScript's HeedError. */
  const char *(*status_name)(heed_status status);

  /* Writes the number of devices, of which the first is the CPU. */
  heed_status (*device_count)(heed_context *context, int32_t *count);
  heed_status (*device_info)(heed_context *context, int32_t device, heed_device_info *info);
  /* Blocks the thread until everything that was enqueued on the device has run. It returns the first failure that nobody
   * has been told of. Callbacks and deleters that are due are called before it returns. */
  heed_status (*device_wait)(heed_context *context, int32_t device);
  /* Calls `callback` when everything enqueued on the device so far has run; the status is as for device_wait. The process
   * does not end before. If the environment ends first, the status is HEED_ERROR_DISPOSED, and no JavaScript may run. */
  heed_status (*device_after)(heed_context *context, int32_t device, heed_callback callback, void *data);
  /* Writes the CUstream of a CUDA device, or NULL for the CPU. What was enqueued before this call is in the stream, so
   * work that you put into the stream runs after it, and before what is enqueued after your work. May wait for copies
   * from other devices. */
  heed_status (*device_stream)(heed_context *context, int32_t device, void **stream);

  /* Makes a contiguous tensor in memory of heed; its elements are not initialised. */
  heed_status (*tensor_empty)(heed_context *context, int32_t device, int32_t dtype, int32_t rank, const int64_t *shape,
                              heed_tensor **tensor);
  /* Makes a tensor over memory that is yours, without a copy. heed calls the deleter once, on the environment's thread,
   * when no tensor has the memory any more and nothing in the queue uses it. If the function fails, the deleter is not
   * called, and the memory stays yours. Read and write the memory only when the queue does not: after tensor_wait(), or
   * in a callback, and before the next operation with the tensor. */
  heed_status (*tensor_from_memory)(heed_context *context, const heed_memory *memory, heed_tensor **tensor);
  /* Makes a view of the same memory. `strides` and `offset` are in elements; `strides` may be NULL for row-major order. */
  heed_status (*tensor_view)(heed_tensor *tensor, int32_t rank, const int64_t *shape, const int64_t *strides,
                             int64_t offset, heed_tensor **view);
  /* Releases a tensor's share of its memory, in the order of the queue. NULL is ignored. */
  void (*tensor_release)(heed_tensor *tensor);
  heed_status (*tensor_info)(heed_tensor *tensor, heed_tensor_info *info);
  /* Copies from memory of the host to a contiguous tensor, in the order of the queue. `source` may change after the
   * call. */
  heed_status (*tensor_write)(heed_tensor *tensor, const void *source, uint64_t bytes);
  /* Copies a contiguous tensor to memory of the host, in the order of the queue, and then calls `callback`; the status
   * says whether the elements are valid. `destination` must live until then. */
  heed_status (*tensor_read)(heed_tensor *tensor, void *destination, uint64_t bytes, heed_callback callback, void *data);
  /* Copies a contiguous tensor to one of equally many bytes on another device, in the order of both queues. */
  heed_status (*tensor_transfer)(heed_tensor *to, heed_tensor *from);
  /* Blocks the thread until everything that was enqueued on the tensor's device has run. Returns the failure of the
   * operation that should have written the tensor, or one that it was computed from. Callbacks and deleters that are due
   * are called before it returns. */
  heed_status (*tensor_wait)(heed_tensor *tensor);
  /* Calls `callback` when everything enqueued on the tensor's device so far has run; the status is as for tensor_wait. */
  heed_status (*tensor_after)(heed_tensor *tensor, heed_callback callback, void *data);

  /* These take a tensor to JavaScript and back: an External (napi_value) for `fromNative`, and one from `toNative`. The
   * External and the tensor have a share of the memory each. */
  heed_status (*tensor_to_value)(heed_tensor *tensor, void **value);
  heed_status (*tensor_from_value)(heed_context *context, void *value, heed_tensor **tensor);

  /* Makes a DLPack tensor of a tensor; `kind` is HEED_DL_MANAGED or HEED_DL_MANAGED_VERSIONED. It has a share of the
   * memory until its deleter is called, which may be on any thread. It does not wait for the queue. */
  heed_status (*tensor_to_dlpack)(heed_tensor *tensor, int32_t kind, void **managed);
  /* Makes a tensor of a DLPack tensor, without a copy, and takes it over: its deleter is called as that of
   * tensor_from_memory. If the function fails, the DLPack tensor stays yours. */
  heed_status (*tensor_from_dlpack)(heed_context *context, int32_t kind, void *managed, heed_tensor **tensor);
  /* These take a DLPack tensor to JavaScript and back, as the External of `toDLPack` and `fromDLPack`. The ownership goes
   * with it: the External calls the deleter if nobody takes the DLPack tensor out of it. */
  heed_status (*dlpack_to_value)(heed_context *context, int32_t kind, void *managed, void **value);
  heed_status (*dlpack_from_value)(heed_context *context, void *value, int32_t *kind, void **managed);

  /* Enqueues the operation `name` of ops.def with all its arguments, in order. heed_operations.h has a function with
   * named arguments for every operation, which calls this one. */
  heed_status (*call)(heed_context *context, const char *name, const heed_argument *arguments, int32_t count);
} heed_interface;

/* What the External of `nativeInterface()` points to. */
typedef struct heed_handover {
  uint64_t magic;
  const heed_interface *functions;
  heed_context *context;
} heed_handover;

/* The interface of one environment. It may be copied; context_release() is to be called once for each heed_open(). */
typedef struct heed_library {
  const heed_interface *functions;
  heed_context *context;
} heed_library;

/* True if the heed that runs has a function: HEED_HAS(&library, tensor_wait). */
#define HEED_HAS(library, function) \
  ((library)->functions->size >= offsetof(heed_interface, function) + sizeof((library)->functions->function))

/* Opens the interface from the data of the External. Returns HEED_ERROR_ARGUMENT if it is not that of heed, or if heed has
 * another major version or fewer functions than version 1.0. */
static inline heed_status heed_open(const void *external, heed_library *library) {
  const heed_handover *handover = (const heed_handover *)external;
  library->functions = NULL;
  library->context = NULL;
  if (!handover || handover->magic != HEED_MAGIC || handover->functions->major != HEED_MAJOR ||
      handover->functions->size < offsetof(heed_interface, call) + sizeof(handover->functions->call))
    return HEED_ERROR_ARGUMENT;
  library->functions = handover->functions;
  library->context = handover->context;
  library->functions->context_retain(library->context);
  return HEED_OK;
}

/* Gives back the share of the context that heed_open() took. */
static inline void heed_close(heed_library *library) {
  if (library->functions) library->functions->context_release(library->context);
  library->functions = NULL;
  library->context = NULL;
}

static inline heed_argument heed_tensor_argument(heed_tensor *tensor) {
  heed_argument argument;
  argument.type = HEED_ARGUMENT_TENSOR;
  argument.count = 0;
  argument.value.tensor = tensor;
  return argument;
}
static inline heed_argument heed_list_argument(heed_list list) {
  heed_argument argument;
  argument.type = HEED_ARGUMENT_LIST;
  argument.count = list.count;
  argument.value.list = list.tensors;
  return argument;
}
static inline heed_argument heed_integer_argument(int64_t integer) {
  heed_argument argument;
  argument.type = HEED_ARGUMENT_INTEGER;
  argument.count = 0;
  argument.value.integer = integer;
  return argument;
}
static inline heed_argument heed_number_argument(double number) {
  heed_argument argument;
  argument.type = HEED_ARGUMENT_NUMBER;
  argument.count = 0;
  argument.value.number = number;
  return argument;
}
static inline heed_argument heed_boolean_argument(int32_t boolean) {
  heed_argument argument;
  argument.type = HEED_ARGUMENT_BOOLEAN;
  argument.count = 0;
  argument.value.integer = boolean;
  return argument;
}

#ifdef __cplusplus
}
#endif

#ifndef HEED_NO_OPERATIONS
#include "heed_operations.h"
#endif
#endif /* HEED_H */
