package provider_test

import randv2 "math/rand/v2"

type rand = randv2.Rand

func newRand(seed uint64) *rand { return randv2.New(randv2.NewPCG(seed, 1)) }
