// The images of kernels, for lib/: lists them, returns their packs, and loads them in threads.
#include <algorithm>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "addon/call.h"
#include "cuda/card.h"

namespace heed::addon {
namespace {

// Returns each image once, in no particular order.
std::vector<const cuda::Image*> all_images() {
  std::vector<const cuda::Image*> images;
  for (const auto* kernel = cuda::KernelEntry::first(); kernel; kernel = kernel->next)
    if (images.empty() || images.back() != &kernel->image) images.push_back(&kernel->image);
  std::sort(images.begin(), images.end());
  images.erase(std::unique(images.begin(), images.end()), images.end());
  return images;
}

const cuda::Image& image_of(Call& call, size_t i) {
  char name[128] = "";
  size_t length = 0;
  napi_get_value_string_utf8(call.env, call[i], name, sizeof name, &length);
  for (const cuda::Image* image : all_images())
    if (!std::strcmp(image->name, name)) return *image;
  fail(Code::argument, "%s: expected the name of an image of kernels, got \"%s\"", call.name, name);
}

// Opens the device, so that the error for a card that cannot be used appears here.
cuda::Card& card_of(Call& call, size_t i) {
  const int64_t index = call.integer(i);
  if (index < 1) fail(Code::device, "%s: expected a CUDA device", call.name);
  Environment::of(call.env).device(index);
  return *cuda::Card::all()[static_cast<size_t>(index - 1)];
}

// kernelImages(device) -> [{name, loaded, pack}]: the images that the device can load; images of one pack share its
// number
napi_value kernel_images(Call& call) {
  cuda::Card& card = card_of(call, 0);
  napi_value list = nullptr;
  napi_create_array(call.env, &list);
  uint32_t count = 0;
  std::map<const unsigned char*, uint32_t> packs;
  for (const cuda::Image* image : all_images()) {
    if (!card.can_load(*image)) continue;
    const uint32_t number = packs.emplace(image->packed, static_cast<uint32_t>(packs.size())).first->second;
    napi_value object = nullptr, name = nullptr, loaded = nullptr, pack = nullptr;
    napi_create_object(call.env, &object);
    napi_create_string_utf8(call.env, image->name, NAPI_AUTO_LENGTH, &name);
    napi_get_boolean(call.env, card.has_loaded(*image), &loaded);
    napi_create_uint32(call.env, number, &pack);
    napi_set_named_property(call.env, object, "name", name);
    napi_set_named_property(call.env, object, "loaded", loaded);
    napi_set_named_property(call.env, object, "pack", pack);
    napi_set_element(call.env, list, count++, object);
  }
  return list;
}

// packedImage(name) -> ArrayBuffer: the pack of an image
napi_value packed_image(Call& call) { return Environment::packed(call.env, image_of(call, 0)); }

// An image that is being loaded to a card in one of libuv's threads.
struct Loading {
  cuda::Card& card;
  const cuda::Image& image;
  const char* unpacked;
  napi_ref bytes = nullptr;  // keeps the bytes alive
  napi_deferred deferred = nullptr;
  napi_async_work work = nullptr;
  std::unique_ptr<Error> error = nullptr;

  void run() {
    try {
      card.load(image, "warmUp", unpacked);
    } catch (const Error& caught) {
      error = std::make_unique<Error>(caught);
    } catch (const std::exception& caught) {
      error = std::make_unique<Error>(Code::internal, caught.what());
    }
  }
  void settle(napi_env env) {
    napi_value undefined = nullptr;
    napi_get_undefined(env, &undefined);
    if (error)
      napi_reject_deferred(env, deferred, Environment::of(env).make_error(env, error->name(), error->what()));
    else
      napi_resolve_deferred(env, deferred, undefined);
    napi_delete_reference(env, bytes);
    napi_delete_async_work(env, work);
  }
};

// loadImage(device, name, bytes) -> Promise<undefined>: bytes are those of the unpacked image, as a Buffer
napi_value load_image(Call& call) {
  cuda::Card& card = card_of(call, 0);
  const cuda::Image& image = image_of(call, 1);
  void* data = nullptr;
  size_t size = 0;
  if (napi_get_buffer_info(call.env, call[2], &data, &size) != napi_ok || size != image.bytes)
    fail(Code::argument, "%s: expected %zu bytes of %s, got %zu", call.name, image.bytes, image.name, size);
  auto loading = std::make_unique<Loading>(Loading{card, image, static_cast<const char*>(data)});
  napi_value promise = nullptr, name = nullptr;
  napi_create_string_utf8(call.env, "heed.loadImage", NAPI_AUTO_LENGTH, &name);
  const bool made = napi_create_reference(call.env, call[2], 1, &loading->bytes) == napi_ok &&
                    napi_create_promise(call.env, &loading->deferred, &promise) == napi_ok &&
                    napi_create_async_work(
                        call.env, nullptr, name, [](napi_env, void* data) { static_cast<Loading*>(data)->run(); },
                        [](napi_env env, napi_status, void* data) {
                          const std::unique_ptr<Loading> done(static_cast<Loading*>(data));
                          done->settle(env);
                        },
                        loading.get(), &loading->work) == napi_ok &&
                    napi_queue_async_work(call.env, loading->work) == napi_ok;
  if (!made) fail(Code::internal, "%s: expected to start a thread's work", call.name);
  loading.release();
  return promise;
}

napi_value set_unpack(Call& call) {
  Environment::of(call.env).set_unpack(call.env, call[0]);
  return nullptr;
}

}  // namespace

void define_images(napi_env env, napi_value exports) {
  define(env, exports, "kernelImages", &guarded<&kernel_images>);
  define(env, exports, "packedImage", &guarded<&packed_image>);
  define(env, exports, "loadImage", &guarded<&load_image>);
  define(env, exports, "setUnpack", &guarded<&set_unpack>);
}

}  // namespace heed::addon
