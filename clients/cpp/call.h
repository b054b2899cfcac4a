// One streaming call of Darkroom by the generated code, with images put together and checked.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include <grpcpp/grpcpp.h>

#include "darkroom/v1/image_service.grpc.pb.h"

using Event = darkroom::v1::GenerationEvent;

// Gets every event but chunks; `content` is the whole file of an `image` event and empty otherwise.
using OnEvent = std::function<void(const Event& event, const std::string& content)>;

// The calls of one server. Throws std::runtime_error when an image is not what was announced.
class Images {
 public:
  explicit Images(const std::string& address);

  grpc::Status generate(grpc::ClientContext& context, const darkroom::v1::GenerateRequest& request,
                        const OnEvent& on_event);
  grpc::Status fill(grpc::ClientContext& context, const darkroom::v1::FillRequest& request,
                    const OnEvent& on_event);

 private:
  std::unique_ptr<darkroom::v1::ImageService::Stub> stub_;
};
