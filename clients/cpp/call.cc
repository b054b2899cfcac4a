#include "call.h"

#include <optional>
#include <stdexcept>

#include <openssl/sha.h>

namespace {

std::string sha256(const std::string& content) {
  std::string digest(SHA256_DIGEST_LENGTH, '\0');
  SHA256(reinterpret_cast<const unsigned char*>(content.data()), content.size(),
         reinterpret_cast<unsigned char*>(digest.data()));
  return digest;
}

template <typename Response>
grpc::Status read_all(grpc::ClientContext& context, grpc::ClientReader<Response>& reader,
                      const OnEvent& on_event) {
  std::optional<Event> announced;
  std::string content;
  Response response;
  while (reader.Read(&response)) {
    const Event& event = response.event();
    if (event.has_image()) {
      announced = event;
      content.clear();
    } else if (event.has_chunk()) {
      if (event.chunk().offset_bytes() != static_cast<int64_t>(content.size())) {
        context.TryCancel();
        throw std::runtime_error("bytes are missing or doubled");
      }
      content += event.chunk().content();
    } else {
      on_event(event, "");
    }
    if (announced && static_cast<int64_t>(content.size()) >= announced->image().size_bytes()) {
      // A content filter may withhold an image: there is nothing to check then.
      const bool filtered = announced->image().finish_reason() == Event::FINISH_REASON_CONTENT_FILTERED;
      if (!filtered && sha256(content) != announced->image().sha256()) {
        context.TryCancel();
        throw std::runtime_error("an image does not match its SHA-256");
      }
      on_event(*announced, content);
      announced.reset();
    }
  }
  return reader.Finish();
}

}  // namespace

Images::Images(const std::string& address)
    : stub_(darkroom::v1::ImageService::NewStub(
          grpc::CreateChannel(address, grpc::InsecureChannelCredentials()))) {}

grpc::Status Images::generate(grpc::ClientContext& context,
                              const darkroom::v1::GenerateRequest& request,
                              const OnEvent& on_event) {
  return read_all(context, *stub_->Generate(&context, request), on_event);
}

grpc::Status Images::fill(grpc::ClientContext& context, const darkroom::v1::FillRequest& request,
                          const OnEvent& on_event) {
  return read_all(context, *stub_->Fill(&context, request), on_event);
}
