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

// Puts images together and checks that the stream carries what it announces.
class Assembly {
 public:
  explicit Assembly(const OnEvent& on_event) : on_event_(on_event) {}

  void feed(const Event& event) {
    if (event.event_case() == Event::EVENT_NOT_SET) return;  // one that this program does not know
    if (event.has_image()) {
      require_whole();
      announced_ = event;
      content_.clear();
    } else if (event.has_chunk()) {
      add(event.chunk());
    } else {
      if (event.has_completed()) require_whole();
      completed_ = event.has_completed();
      on_event_(event, "");
      return;
    }
    if (static_cast<int64_t>(content_.size()) >= announced_->image().size_bytes()) finish_image();
  }

  // Says that the stream ended without an error.
  void finish() const {
    if (!completed_) throw std::runtime_error("the stream ended early");
  }

 private:
  void add(const Event::Chunk& chunk) {
    if (!announced_ || chunk.image_index() != announced_->image().image_index()) {
      throw std::runtime_error("bytes of an image that was not announced");
    }
    if (chunk.offset_bytes() != static_cast<int64_t>(content_.size())) {
      throw std::runtime_error("bytes are missing or doubled");
    }
    content_ += chunk.content();
  }

  void finish_image() {
    // A content filter may withhold an image: there is nothing to check then.
    const auto& image = announced_->image();
    const bool filtered = image.finish_reason() == Event::FINISH_REASON_CONTENT_FILTERED;
    if (!filtered && sha256(content_) != image.sha256()) {
      throw std::runtime_error("an image does not match its SHA-256");
    }
    on_event_(*announced_, content_);
    announced_.reset();
  }

  void require_whole() const {
    if (announced_) throw std::runtime_error("an image has fewer bytes than announced");
  }

  const OnEvent& on_event_;
  std::optional<Event> announced_;
  std::string content_;
  bool completed_ = false;
};

template <typename Response>
grpc::Status read_all(grpc::ClientContext& context, grpc::ClientReader<Response>& reader,
                      const OnEvent& on_event) {
  Assembly assembly(on_event);
  Response response;
  try {
    while (reader.Read(&response)) assembly.feed(response.event());
  } catch (...) {
    context.TryCancel();
    throw;
  }
  const grpc::Status status = reader.Finish();
  if (status.ok()) assembly.finish();
  return status;
}

}  // namespace

Server::Server(const std::string& address) {
  const auto channel = grpc::CreateChannel(address, grpc::InsecureChannelCredentials());
  images_ = darkroom::v1::ImageService::NewStub(channel);
  models_ = darkroom::v1::ModelService::NewStub(channel);
}

grpc::Status Server::generate(grpc::ClientContext& context,
                              const darkroom::v1::GenerateRequest& request,
                              const OnEvent& on_event) {
  return read_all(context, *images_->Generate(&context, request), on_event);
}

grpc::Status Server::fill(grpc::ClientContext& context, const darkroom::v1::FillRequest& request,
                          const OnEvent& on_event) {
  return read_all(context, *images_->Fill(&context, request), on_event);
}

grpc::Status Server::list_models(std::chrono::system_clock::time_point deadline,
                                 std::vector<darkroom::v1::Model>& models) {
  darkroom::v1::ListModelsRequest request;
  while (true) {
    grpc::ClientContext context;
    context.set_deadline(deadline);
    darkroom::v1::ListModelsResponse page;
    const grpc::Status status = models_->ListModels(&context, request, &page);
    if (!status.ok()) return status;
    models.insert(models.end(), page.models().begin(), page.models().end());
    if (page.next_page_token().empty()) return status;
    request.set_page_token(page.next_page_token());
  }
}

grpc::Status Server::get_model(grpc::ClientContext& context, const std::string& name,
                               darkroom::v1::Model& model) {
  darkroom::v1::GetModelRequest request;
  request.set_name(name);
  darkroom::v1::GetModelResponse response;
  const grpc::Status status = models_->GetModel(&context, request, &response);
  model = response.model();
  return status;
}
