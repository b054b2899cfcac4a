# Run by build.sh in the folder that `gen` was generated into: objects of what has changed, and `darkroom`.
SOURCES := $(shell find gen -name '*.cc') $(HERE)/main.cc $(HERE)/conformance.cc $(HERE)/call.cc
OBJECTS := $(patsubst %.cc,%.o,$(subst $(HERE)/,,$(SOURCES)))
CXXFLAGS := -std=c++17 -O1 -Wall -Igen -I$(HERE) $(shell pkg-config --cflags grpc++ protobuf)

darkroom: $(OBJECTS)
	$(CXX) $^ -o $@ $(shell pkg-config --libs grpc++ protobuf) -lcrypto

gen/%.o: gen/%.cc
	$(CXX) $(CXXFLAGS) -c $< -o $@

%.o: $(HERE)/%.cc $(HERE)/call.h $(HERE)/conformance.h
	$(CXX) $(CXXFLAGS) -c $< -o $@
