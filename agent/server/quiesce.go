package server

import "encoding/json"

// quiesce makes the guest ready for a snapshot.
func (s *Server) quiesce(payload []byte) ([]byte, error) {
	var q struct {
		DropCaches bool `json:"dropCaches"`
	}
	if len(payload) > 0 {
		if err := json.Unmarshal(payload, &q); err != nil {
			return nil, invalid("QUIESCE: %v", err)
		}
	}
	return nil, s.Flush(q.DropCaches)
}
